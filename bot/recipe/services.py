"""Servers that a repository's tests need, such as a database: as `.troop.toml` or the workflows of CI name them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from bot.recipe.ci import jobs_of, runs_tests, steps_of, workflows
from bot.recipe.prepare import preparing
from bot.recipe.recipe import Layer, Read, Recipe
from bot.records import Record, Service
from bot.records.environment import PORTS, ServiceKind
from bot.repo_config import FILE_NAME, RepoConfig

# Words of images' and actions' names: `postgis/postgis:16-3.4`, `bitnami/redis`, `ankane/setup-postgres@v1`.
_WORDS: dict[str, ServiceKind] = {
    **dict.fromkeys(("postgres", "postgresql", "postgis", "pgvector", "timescaledb", "pgrouting"), "postgres"),
    **dict.fromkeys(("mysql", "mariadb", "percona"), "mysql"),
    **dict.fromkeys(("redis", "valkey"), "redis"),
    "memcached": "memcached",
    "rabbitmq": "rabbitmq",
}
_EXTENSIONS = {"postgis": "postgis-3", "pgvector": "pgvector", "pgrouting": "pgrouting"}  # postgresql-VERSION-...
_PROGRAMS: dict[ServiceKind, str] = {
    "postgres": "ls -d /usr/lib/postgresql/*/bin/initdb || command -v initdb",
    "mysql": "command -v mariadbd || command -v mysqld",
    "redis": "command -v redis-server || command -v valkey-server",
    "memcached": "command -v memcached",
    "rabbitmq": "ls -d /usr/lib/rabbitmq",
}
_INSTALL = {
    "apt-get": "apt-get update && apt-get install -y --no-install-recommends",
    "apk": "apk add --no-cache",
    "dnf": "dnf install -y",
}
DEBIAN: dict[ServiceKind, str] = {  # the packages there
    "postgres": "postgresql",
    "mysql": "mariadb-server",
    "redis": "redis-server",
    "memcached": "memcached",
    "rabbitmq": "rabbitmq-server",
}
_PACKAGES: dict[str, dict[ServiceKind, str]] = {
    "apt-get": DEBIAN,
    "apk": DEBIAN | {"mysql": "mariadb mariadb-client", "redis": "redis"},
    "dnf": DEBIAN | {"postgres": "postgresql-server", "redis": "valkey"},
}
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_PORT_OF = re.compile(r"job\.services\.([\w-]+)\.ports\[\s*['\"]?(\d+)['\"]?\s*\]")
_ENV_OF = re.compile(r"env\.(\w+)")
_DATABASE_OF = re.compile(r"(postgres(?:ql)?|postgis|mysql2?|mariadb)(?:\+\w+)?://[^\s/]*/([A-Za-z0-9_][\w.-]*)")
_TESTS = re.compile(r"(?<![\w.-])(tests?|specs?|tox|nox)(?![\w.])")
_MOST = 8  # servers of a job
_MOST_VARIABLES = 60
_LONGEST = 500  # characters of a variable
# Those of a job's variables that say how programs run, which is the sandbox's matter, or how tests print.
_NOT_OF_TESTS = re.compile(
    r"(?!NODE_ENV$)(GITHUB|RUNNER|ACTIONS|GIT|CARGO|PIP|UV|POETRY|NPM|npm|YARN|PNPM|COVERAGE|CODECOV|PYTEST|DOCKER"
    r"|COMPOSE|NODE|JAVA|GRADLE|MAVEN|LD|LC|TROOP|CLICOLOR)_.*"
    r"|GO(FLAGS|PATH|PROXY|CACHE|ROOT|OS|ARCH)|RUSTFLAGS|RUBY(OPT|LIB)|PERL5\w*|PYTHON\w*|_?JAVA_\w*OPTIONS"
    r"|CI|PATH|HOME|TMPDIR|TEMP|TMP|LANG|SHELL|ENV|BASH_ENV|TERM|.*COLORS?|.*TOKEN.*|.*_AUTH"
)


class Found(Record):
    """What the tests of a job of CI find."""

    source: str = ""  # the workflow
    services: tuple[Service, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict)
    prepare: str = ""  # what its steps before the tests do to the servers' data
    notes: tuple[str, ...] = ()


def with_services(found: Recipe, files: Sequence[str], read: Read, config: RepoConfig, *, installs: bool) -> Recipe:
    """The recipe with the servers and the variables that tests need, and a layer before others that installs them.

    A `[services]` table of the config decides, also an empty one; without it workflows do. `installs`: whether images
    are built; otherwise the image has to have the servers.
    """
    told = of_workflows(files, read) if config.services is None else Found(source=FILE_NAME, services=config.services)
    update: dict[str, object] = {"variables": {**told.variables, **config.environment}}
    if told.services:
        words = f"{', '.join(one.kind for one in told.services)} beside each test ({told.source})"
        update["found"] = "; ".join(filter(None, (found.found, words)))
        update["services"] = tuple(_with_databases(told.services, config.environment))
        if installs and found.setup.strip() != "true":
            layer = _layer(told.services, told.source, optional=config.services is None)
            update["layers"] = (layer, *found.layers)
    if prepare := told.prepare if config.prepare is None else config.prepare.strip():
        update |= {"prepare": prepare, "prepare_from": told.source if config.prepare is None else FILE_NAME}
        update["prepare_optional"] = config.prepare is None
        words = f"`{' && '.join(prepare.splitlines())[:200]}` before all tests ({update['prepare_from']})"
        update["found"] = "; ".join(filter(None, (str(update.get("found", found.found)), words)))
    notes = told.notes if told.services else _of_compose(files, read) if config.services is None else ()
    return found.model_copy(update={**update, "notes": (*found.notes, *notes)})


def of_workflows(files: Sequence[str], read: Read) -> Found:
    """The servers and the variables of the first job that has such servers and runs tests, else of the first that has
    them. Jobs differ in what they test with, so those of several are not put together."""
    second: Found | None = None
    for path, workflow in workflows(files, read):
        for job in jobs_of(workflow).values():
            steps = steps_of(job)
            tests = _tests_of(steps)
            if tests is None and second is not None:
                continue
            services, notes = _of_job(job, steps)
            if not services:
                continue
            ports = {name: one.port for one in services for name in one.hosts}
            variables = _variables((workflow, job, tests or {}), ports)
            services = tuple(_with_databases(services, variables))
            found = Found(source=path, services=services, variables=variables, notes=notes)
            if tests is not None:
                return found.model_copy(update={"prepare": preparing(steps[: steps.index(tests)])})
            second = found
    return second or Found()


def _tests_of(steps: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The step that runs tests, by a command that is known, else by a word that speaks of them."""
    known = (step for step in steps if runs_tests(step))
    likely = (step for step in steps if _TESTS.search(str(step.get("run", ""))))
    return next(known, None) or next(likely, None)


def _of_job(job: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> tuple[tuple[Service, ...], tuple[str, ...]]:
    found: dict[ServiceKind, Service] = {}
    notes: list[str] = []
    named = job.get("services")
    for name, service in list(named.items())[:_MOST] if isinstance(named, dict) else ():
        image = service.get("image") if isinstance(service, dict) else service
        if not isinstance(image, str) or not image or "${{" in (bare := image.partition(":")[0]):
            continue
        kind = _kind_of(bare)
        if kind is None:
            notes.append(f"CI's tests have {image[:100]} beside them, which is not known here: they run without it")
        elif kind not in found:
            given = _strings(service.get("env")) if isinstance(service, dict) else {}
            found[kind] = _service(kind, image, given, str(name), _port(service, PORTS[kind]))
    for step in steps:
        uses = step.get("uses")
        if isinstance(uses, str) and (kind := _kind_of(uses.partition("@")[0])) and kind not in found:
            found[kind] = _service(kind, "", _strings(step.get("with")), "", PORTS[kind])
    return tuple(found.values()), tuple(notes)


def _kind_of(name: str) -> ServiceKind | None:
    words = re.split(r"[/_-]", name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), None)


def _service(kind: ServiceKind, image: str, given: Mapping[str, str], name: str, port: int) -> Service:
    """`given`: the image's variables, or an action's inputs. What has odd characters counts as not given."""

    def value(pattern: str) -> str:
        found = (text for key, text in given.items() if re.fullmatch(pattern, key, re.IGNORECASE))
        return next((text for text in found if "${{" not in text), "")

    user = value(r"(postgres|postgresql|mysql|mariadb|rabbitmq[_ -]default)?[_ -]?user(name)?")
    database = value(r"(postgres|postgresql|mysql|mariadb)?[_ -]?(db|database)|rabbitmq[_ -]default[_ -]vhost")
    if kind == "postgres" and not database:
        database = user
    wanted: dict[str, object] = {
        "user": user,
        "password": value(r"((postgres|postgresql|mysql|mariadb|redis)[_ -]?)?password|rabbitmq[_ -]default[_ -]pass"),
        "roots": value(r"(mysql|mariadb)?[_ -]?root[_ -]?password"),
        "databases": (database,) if database else (),
        "hosts": (name.lower(),),
        "extensions": tuple(sorted(word for word in _EXTENSIONS if word in image)),
        "asked": image[:100],
    }
    fits = {key: held for key, held in wanted.items() if _valid(kind, {key: held})}
    return Service.model_validate({"kind": kind, "port": port if port >= 1024 else PORTS[kind], **fits})


def _valid(kind: ServiceKind, some: dict[str, object]) -> bool:
    try:
        Service.model_validate({"kind": kind, "port": PORTS[kind], **some})
    except ValidationError:
        return False
    return True


def _port(service: object, usual: int) -> int:
    """That of the machine which leads to the server's, as in `5433:5432`."""
    ports = service.get("ports") if isinstance(service, dict) else None
    for port in ports if isinstance(ports, list) else ():
        if (found := re.fullmatch(r"(\d{1,5}):(\d{1,5})(/tcp)?", str(port))) and int(found[2]) == usual:
            return int(found[1]) if 1024 <= int(found[1]) <= 65_535 else usual
    return usual


def _strings(values: object) -> dict[str, str]:
    """A mapping of YAML, as variables have it."""
    if not isinstance(values, dict):
        return {}
    return {
        str(key): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in values.items()
        if isinstance(value, str | int | float)
    }


def _variables(levels: Sequence[Mapping[str, Any]], ports: Mapping[str, int]) -> dict[str, str]:
    """What tests find of a workflow's, a job's and a step's variables, the last first. Expressions are filled in where
    they are ports or other variables; what has any other is left out."""
    given = {name: text for level in levels for name, text in _strings(level.get("env")).items()}
    found: dict[str, str] = {}
    for name, text in list(given.items())[:_MOST_VARIABLES]:
        text = _EXPRESSION.sub(lambda match: _filled(match, given, ports), text)
        fits = re.fullmatch(r"[A-Za-z_]\w{0,100}", name) and not _NOT_OF_TESTS.fullmatch(name)
        if fits and "${{" not in text and len(text) <= _LONGEST and text.isprintable():
            found[name] = text
    return found


def _filled(match: re.Match[str], given: Mapping[str, str], ports: Mapping[str, int]) -> str:
    if port := _PORT_OF.fullmatch(match[1]):
        return str(ports.get(port[1].lower(), port[2]))
    if other := _ENV_OF.fullmatch(match[1]):
        return given.get(other[1], match[0])
    return match[0]


def _with_databases(services: Sequence[Service], variables: Mapping[str, str]) -> Iterator[Service]:
    """The servers with the databases that addresses among the variables name."""
    for one in services:
        named = (
            match[2]
            for text in variables.values()
            for match in _DATABASE_OF.finditer(text)
            if _kind_of(match[1].rstrip("2")) == one.kind
        )
        yield one.model_copy(update={"databases": tuple(dict.fromkeys((*one.databases, *named)))[:_MOST]})


def _of_compose(files: Sequence[str], read: Read) -> tuple[str, ...]:
    """What is said where a file for `docker compose` alone names servers: it need not be for tests."""
    for path in ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"):
        named = (
            re.findall(r"^[ \t]*image:[ \t]*['\"]?([\w./-]+)", read(path) or "", re.MULTILINE) if path in files else ()
        )
        if kinds := sorted({kind for image in named[:50] if (kind := _kind_of(image))}):
            tables = " ".join(f"[services.{kind}]" for kind in kinds)
            return (f"{path} names {', '.join(kinds)}: if tests need that, say so in {FILE_NAME}: {tables}",)
    return ()


def _layer(services: Sequence[Service], source: str, *, optional: bool) -> Layer:
    kinds = [one.kind for one in services]
    there = " && ".join(f"{{ {_PROGRAMS[kind]}; }}" for kind in kinds)
    installs = "; el".join(
        f"if command -v {manager} >/dev/null; then {_INSTALL[manager]} {' '.join(packages[kind] for kind in kinds)}"
        for manager, packages in _PACKAGES.items()
    )
    newest = "$(ls /usr/lib/postgresql | sort -V | tail -n 1)"
    commands = [
        f"{{ {there}; }} >/dev/null 2>&1 || {installs}; else echo 'no package manager is known here'; exit 1; fi",
        *(
            f'apt-get install -y --no-install-recommends "postgresql-{newest}-{_EXTENSIONS[name]}"'
            for name in sorted({name for one in services for name in one.extensions})
        ),
    ]
    if "postgres" in kinds:  # Debian's package would make a database of its own
        off = (
            "mkdir -p /etc/postgresql-common; echo create_main_cluster=false >/etc/postgresql-common/createcluster.conf"
        )
        commands.insert(0, off)
    return Layer(name="services", source=source, commands=tuple(commands), optional=optional)
