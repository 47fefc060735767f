"""Servers beside tests: started anew for each job, so that no test finds what another one wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bot.recipe.services import DEBIAN
from bot.records import Service
from bot.records.environment import ServiceKind

USER = 65_534  # nobody's, who is neither root nor a job's user
PLACE = "/services"  # of their data, in a container
MADE = "/opt/troop/services"  # of data that are copied
PREPARED = "/opt/troop/prepared"  # of data that `prepare` has filled
SOCKETS = ("/run/postgresql", "/run/mysqld")
STARTING = 90.0  # seconds that they may take until they answer; the script itself waits for 60 at most
_SCRIPT = Path(__file__).with_name("services.sh").read_text()
_NAMES: dict[ServiceKind, str] = {
    "postgres": "PostgreSQL",
    "mysql": "MySQL",
    "redis": "Redis",
    "memcached": "Memcached",
    "rabbitmq": "RabbitMQ",
}
_ADMINISTRATORS = {"postgres": "postgres", "mysql": "root", "rabbitmq": "guest"}  # where no user is named


class Beside(NamedTuple):
    """Servers that run beside each job."""

    services: tuple[Service, ...] = ()
    surely: bool = False  # they have run here: where one does not start, the sandbox failed and not the test
    made: str = MADE  # where the image may have their data


NONE = Beside()


class Told(NamedTuple):
    """What came of starting them."""

    running: tuple[Service, ...]
    versions: tuple[str, ...]  # of those, for records: `postgres PostgreSQL 15.4`
    notes: tuple[str, ...]  # for people


def command(beside: Beside, place: str, made: str = "") -> tuple[str, ...]:
    """The argv that starts them, with their data below `place`; it ends when all answer or have failed.

    `made`: where `making` may have put the data.
    """
    how = "surely" if beside.surely else "maybe"
    return ("sh", "-c", _SCRIPT, "services.sh", place, made or "-", how, *map(_line, beside.services))


def making(services: Sequence[Service], place: str) -> tuple[str, ...]:
    """The argv that makes their data below `place` and starts nothing. What can't be made is left to `command`."""
    return ("sh", "-c", _SCRIPT, "services.sh", place, "-", "never", *map(_line, services))


def stopping(services: Sequence[Service], place: str) -> tuple[str, ...]:
    """The argv that ends them, so that `place` can be copied from as what `making` made."""
    return ("sh", "-c", _SCRIPT, "services.sh", place, "-", "stop", *map(_line, services))


def _line(one: Service) -> str:
    user = one.user or _ADMINISTRATORS.get(one.kind, "")
    words = (one.kind, str(one.port), user, one.password, one.roots, ",".join(one.databases))
    return " ".join(word or "-" for word in words)


def told(services: Sequence[Service], text: str) -> Told:
    """From the file that the script writes, `told`."""
    said = dict(line.partition(" ")[::2] for line in text.splitlines())
    running, versions, notes = [], [], []
    for one in services:
        ended = said.get(one.kind, "failed: it did not answer in time")
        if ended.startswith("failed:"):
            why = ended.removeprefix("failed:").strip()
            notes.append(
                f"{_NAMES[one.kind]} does not run beside tests, which may fail for want of it: {why}; the image or the "
                f"machine must have it (on Debian the package {DEBIAN[one.kind]})"
            )
            continue
        running.append(one)
        versions.append(f"{one.kind} {ended}")
        if (wanted := _major(one.asked.rpartition(":")[2])) and wanted != _major(ended.rpartition(" ")[2]):
            notes.append(f"beside tests runs {ended}, in the place of {one.asked}")
    return Told(tuple(running), tuple(versions), tuple(notes))


def _major(version: str) -> str:
    first = version.partition(".")[0].partition("-")[0]
    return first if first.isdigit() else ""


def in_words(
    running: Sequence[Service], versions: Sequence[str], variables: Sequence[str], *, prepared: bool = False
) -> str:
    """What tests find, for the models that write them; "" where there are no servers."""
    found = []
    for one, version in zip(running, versions, strict=True):
        words = f"{version.partition(' ')[2]} on localhost:{one.port}"
        known = [f"user {one.user or _ADMINISTRATORS[one.kind]}"] if one.kind in _ADMINISTRATORS else []
        known += [f"password {one.password}"] if one.password and one.kind != "postgres" else []
        space = "virtual host" if one.kind == "rabbitmq" else "database"
        known += [f"{space} {', '.join(one.databases)}"] if one.databases else []
        found.append(f"{words} ({', '.join(known)})" if known else words)
    if not found:
        return ""
    data = "as `prepare` leaves it" if prepared else "with no data in it"
    told = f"Beside each test runs, {data}: {'; '.join(found)}."
    return f"{told} In its environment: {', '.join(variables)}." if variables else told


def hosts(services: Sequence[Service]) -> tuple[str, ...]:
    """Names under which tests look for them, besides localhost."""
    return tuple(dict.fromkeys(name for one in services for name in one.hosts if name != "localhost"))
