"""Where and how a run's tests ran, and what the values of a repository's config for it may be."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from bot.records.record import Record

SCRIPT = "{script}"


def _image(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._/:@-]{0,250}", text):
        raise ValueError('is not an image\'s name; they look like "python:3.12-slim"')
    return text


def _ending(text: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9_.+-]{1,20}", text):
        raise ValueError('endings look like ".rb": a dot, then letters or digits')
    return text.lower()


def with_script(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The argv. Raises `ValueError` where it has no `SCRIPT`."""
    if not any(SCRIPT in word for word in argv):
        raise ValueError('must contain {script} in place of the test file\'s path, as in "ruby {script}"')
    return argv


def _like(pattern: str, words: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be made of {words}")
        return text

    return AfterValidator(check)


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,100}", name):
        raise ValueError("is not a variable's name; they look like DATABASE_URL")
    if _OWN.fullmatch(name):
        raise ValueError("is the sandbox's own; before a command's name, as in PYTHONPATH=src pytest, some can be set")
    return name


# Variables that decide how and where programs run, by which a test's end is proved.
_OWN = re.compile(r"PATH|HOME|TMPDIR|GOTMPDIR|IFS|ENV|BASH_ENV|(LD|DYLD|PYTHON|TROOP)_?.*")

Line = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
SetupLines = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
ImageName = Annotated[str, AfterValidator(_image)]
FileEnding = Annotated[str, AfterValidator(_ending)]
Variable = Annotated[str, AfterValidator(_variable)]

ServiceKind = Literal["postgres", "mysql", "redis", "memcached", "rabbitmq"]
PORTS: dict[ServiceKind, int] = {
    "postgres": 5432,
    "mysql": 3306,
    "redis": 6379,
    "memcached": 11211,
    "rabbitmq": 5672,
}
Account = Annotated[str, _like(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", "letters, digits, `_`, `.` and `-`, at most 63")]
Password = Annotated[str, _like(r"[A-Za-z0-9_.!@#%^*+=:,/~-]{0,100}", "letters, digits, _.!@#%^*+=:,/~-, at most 100")]
HostName = Annotated[str, _like(r"[a-z0-9_]([a-z0-9_.-]{0,60}[a-z0-9_])?", "lower-case letters, digits, `-` and `.`")]
Port = Annotated[int, Field(ge=1024, le=65_535)]


class Service(Record):
    """A server that runs beside each test, with nothing in it but an empty database. All users may do all."""

    kind: ServiceKind
    port: Port
    user: Account | Literal[""] = ""  # "": the kind's usual one
    password: Password = ""  # PostgreSQL takes any
    roots: Password = ""  # of MySQL's root
    databases: tuple[Account, ...] = ()
    hosts: tuple[HostName, ...] = ()  # under which it is found besides localhost
    extensions: tuple[str, ...] = ()  # that are installed with it
    asked: str = ""  # the image that was named, for people


class TestConfig(Record):
    """What a repository's config says of its tests, as far as the server honoured it."""

    __test__ = False  # for pytest

    command: tuple[Line, ...] = ()  # the repository's own tests; empty: as its files suggest
    timeout: Seconds | None = None  # of that command; None: the server's
    scripts: dict[FileEnding, Annotated[tuple[Line, ...], AfterValidator(with_script)]] = Field(default_factory=dict)
    image: Annotated[str, AfterValidator(lambda text: text and _image(text))] = ""
    setup: SetupLines = ""  # a shell command line, run in the image while it is prepared
    services: tuple[Service, ...] | None = None  # beside each test; None: as its workflows name them
    prepare: SetupLines | None = None  # shell lines that run before all tests; None: as its workflows have them
    environment: dict[Variable, Line] = Field(default_factory=dict)  # of every test


class Environment(Record):
    """Where a run's tests ran, as far as others can make the same."""

    sandbox: str = ""  # `docker`, `process`; "": not known
    image: str = ""  # that was begun from, as people call it
    digest: str = ""  # of that image
    steps: tuple[str, ...] = ()  # commands that made the image for the tests of it, in their order
    services: tuple[str, ...] = ()  # servers beside each test, with their versions: `postgres PostgreSQL 15.4`
    test_timeout: float = 0.0  # seconds that one test had
    config: TestConfig | None = None  # None in reports of earlier versions: not known
