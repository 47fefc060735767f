"""`.troop.toml` of a repository's default branch: what its maintainers set, within what the server allows.

```toml
base = "develop"                # the branch that runs work on and pull requests are for, instead of the default branch

[test]
command = "pytest -q"           # the repository's own tests, run on the best-voted candidates; NAME=value may precede
timeout = 600                   # seconds
prepare = "bin/migrate"         # shell lines that run before all tests, once, without network

[test.environment]              # of every test
DATABASE_URL = "postgres://app@localhost/app_test"

[services.postgres]             # beside every test; or mysql, redis, memcached, rabbitmq; an empty [services]: none
user = "app"                    # these are the defaults but for user, database and host; all users may do all
password = ""
database = "app_test"
port = 5432
host = "db"                     # a name of it, besides localhost

[scripts]                       # how a test script with this ending is run
".rb" = "ruby {script}"

[sandbox]
image = "ruby:3.3"              # only what the server's TROOP_SANDBOX_IMAGES_ALLOWED lists
setup = "bundle install"        # run with network when the image is built, instead of what its files suggest

[context]
exclude = ["docs/**"]           # files that are left out
read = "all"                    # every file is read; "listed": those that the model names from the list of paths

[run]
trajectories = 20               # at most as many as the server samples; "auto": until the count is sure of its winner
stop = "consensus"              # by which rule fewer are made, as TROOP_SOLVER_STOP names them, or "none"

[publish]
test = true                     # the pull request brings a regression test, as a file of the repository's own kind
fix_ci = true                   # checks that fail on Troop's pull request start one revision of it

[feedback]
keep = false                    # the server keeps nothing of what becomes of pull requests, and deletes what it has
```

Only the default branch's file counts, also for runs on another branch. `troop solve` works on what is checked out,
whatever `base` says. A bad file is a `ConfigProblem` that its author is shown, not an exception.
"""

import difflib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from bot.records import Record, Service, StopName
from bot.records.environment import (
    PORTS,
    Account,
    FileEnding,
    HostName,
    ImageName,
    Line,
    Password,
    Port,
    Seconds,
    SetupLines,
    Variable,
    with_script,
)

FILE_NAME = ".troop.toml"
MAX_SIZE = 16 * 1024  # characters; the parser takes quadratic time for a key with thousands of dots
AUTO = 0  # trajectories

# What a line has unquoted, or within double quotes as well, that only a shell understands.
# Outside quotes; `#` and `~` at the beginning of a word.
_OPERATOR = re.compile(r"[;|&<>]+|[()*?]|\{[^\s{},]*,[^\s{}]*\}|(?<!\S)(?:#|~(?=[/\s]|$))")
_EXPANSION = re.compile(r"`|\$(?:\{\w*\}?|\w+|\(|[@#?!*])")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_TUPLE = re.compile(r"\((?:'[^']*',? ?)+\)")  # a table's name, as tomllib prints it
_BUILTINS = frozenset(("!", "cd", "export", "source", ".", "set", "ulimit", "umask", "eval", "exec", "alias"))


class RepoConfig(Record):
    """A repository's own settings. Commands are argv tuples, run without a shell unless they name one."""

    base: str = ""  # the branch to work on; "": the default branch
    test_command: tuple[str, ...] = ()
    test_timeout: float | None = None  # seconds; None: the server's
    scripts: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # ending with its dot -> argv with `{script}`
    environment: dict[str, str] = Field(default_factory=dict)  # of every test
    services: tuple[Service, ...] | None = None  # beside every test; None: as the workflows of CI name them
    image: str = ""
    setup: str = ""  # a shell command line, run in the image while it is prepared
    prepare: str | None = None  # shell lines that run before all tests; None: as its workflows have them; "": none
    exclude: tuple[str, ...] = ()  # glob patterns
    read: Literal["", "listed", "all"] = ""  # how files are chosen; empty: as the server does
    trajectories: int | None = None  # `AUTO`: as the rule says
    stop: Literal["", StopName] = ""  # empty: as the server does
    feedback: bool = True  # whether what becomes of pull requests is kept, and corrects later probabilities
    publish_test: bool = False  # whether the winner's test joins the repository, in a file of its own
    fix_ci: bool = False  # whether checks that fail on a pull request of ours start a revision of it, once


class ConfigProblem(Record):
    """Why a `.troop.toml` can't be used, for its author."""

    message: str
    key: str = ""  # e.g. `test.timeout`
    line: int | None = None  # counted from 1

    def __str__(self) -> str:
        where = f"{FILE_NAME}, line {self.line}" if self.line else FILE_NAME
        return f"{where}: {self.message}"


# -- the file's shape --------------------------------------------------------------------------------------------


def command(text: str) -> tuple[str, ...]:
    """The argv of a command line. Variables set before the program, as in `LANG=C pytest`, are arguments of `env`.

    Raises `ValueError` for what can't be run without a shell.
    """
    if shell := _shell_in(text):
        raise ValueError(f"is run without a shell, which {shell} needs; quote it, or put the line into sh -c '...'")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"is not a command line: {error}; check its quotes") from error
    if not words:
        raise ValueError("is empty; leave the key out, or give a command")
    program = next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    if program == len(words):
        raise ValueError("only sets variables; name the command behind them, as in LANG=C pytest -q")
    if words[program] in _BUILTINS:
        raise ValueError(f"is run without a shell, which {words[program]} needs; put it into sh -c '...'")
    return (*(["env"] if program else []), *words)


def _shell_in(text: str) -> str:
    """The first part of the line that only a shell understands, such as `&&` or `$HOME`; "" where it has none."""
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        if quote == "'":
            quote = "" if character == "'" else quote
        elif character == "\\":
            at += 1
        elif found := _EXPANSION.match(text, at) or (None if quote else _OPERATOR.match(text, at)):
            return found[0]
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        at += 1
    return ""


def _argv(text: str) -> str:
    command(text)
    return text


def _script(text: str) -> str:
    with_script(command(text))
    return text


def _pattern(text: str) -> str:
    if text.startswith("/") or ".." in PurePosixPath(text).parts:
        raise ValueError('patterns are relative to the repository\'s root, as in "docs/**"')
    return text


# Stricter than git-check-ref-format(1): nothing that can be mistaken for an option, a path or an expression.
_BRANCH = re.compile(r"(?!troop/)[A-Za-z0-9_](?:[A-Za-z0-9_.#+-]|/(?![/.-])){0,198}")


def is_base(name: str) -> bool:
    """Whether a base branch can be called so: none of Troop's own, and nothing odd."""
    bad_part = any(part.endswith((".", ".lock")) for part in name.split("/"))
    return bool(_BRANCH.fullmatch(name)) and not (name.endswith("/") or ".." in name or bad_part or name == "HEAD")


def _base(text: str) -> str:
    if not is_base(text):
        raise ValueError('is no branch that runs can work on; they look like "develop" or "release/1.x"')
    return text


def _or_auto(value: object, number: ValidatorFunctionWrapHandler) -> int:
    return AUTO if value == "auto" else int(number(value))


def _rule(rule: str, info: ValidationInfo) -> str:
    if rule == "none" and info.data.get("trajectories") == AUTO:
        raise ValueError('"none" leaves trajectories = "auto" without an end; name another rule, or a number')
    return rule


_CommandLine = Annotated[Line, AfterValidator(_argv)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Test(_Table):
    command: _CommandLine | None = None
    timeout: Annotated[Seconds, Field(strict=False)] | None = None
    prepare: SetupLines | None = None
    environment: Annotated[dict[Variable, Line], Field(max_length=100)] = {}


class _Service(_Table):
    user: Account | None = None
    password: Password = ""
    database: Account | None = None
    port: Port | None = None
    host: HostName | None = None


class _Services(_Table):
    postgres: _Service | None = None
    mysql: _Service | None = None
    redis: _Service | None = None
    memcached: _Service | None = None
    rabbitmq: _Service | None = None


class _Sandbox(_Table):
    image: ImageName = ""
    setup: SetupLines = ""


class _Context(_Table):
    exclude: Annotated[list[Annotated[Line, AfterValidator(_pattern)]], Field(max_length=1000)] = []
    read: Literal["", "listed", "all"] = ""


class _Run(_Table):
    trajectories: Annotated[int, Field(ge=1, le=4096), WrapValidator(_or_auto)] | None = None
    stop: Annotated[Literal["", StopName], AfterValidator(_rule)] = ""


class _Publish(_Table):
    test: bool = False
    fix_ci: bool = False


class _Feedback(_Table):
    keep: bool = True


class _File(_Table):
    base: Annotated[str, AfterValidator(_base)] | None = None
    test: _Test = _Test()
    scripts: dict[FileEnding, Annotated[Line, AfterValidator(_script)]] = {}
    services: _Services | None = None
    sandbox: _Sandbox = _Sandbox()
    context: _Context = _Context()
    run: _Run = _Run()
    publish: _Publish = _Publish()
    feedback: _Feedback = _Feedback()


_ALLOWED: dict[tuple[str, ...], tuple[str, ...]] = {
    (name,): tuple(field.annotation.model_fields)
    for name, field in _File.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, _Table)
} | {(): tuple(_File.model_fields)}


def parse(text: str) -> RepoConfig | ConfigProblem:
    """Read the file's text, over a byte-order mark. Never raises."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_SIZE:
        return ConfigProblem(message=f"the file has {len(text):,} characters; at most {MAX_SIZE:,} are read")
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, RecursionError):
            return ConfigProblem(message="its values are nested too deeply")
        line = re.search(r"\(at line (\d+),", str(error))
        number = int(line[1]) if line else text.count("\n") + 1 if "at end of document" in str(error) else None
        return ConfigProblem(message=f"this is not TOML: {_TUPLE.sub(_dotted, str(error))[:500]}", line=number)
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        return _problem(error, text)
    return RepoConfig(
        base=file.base or "",
        test_command=command(file.test.command) if file.test.command else (),
        test_timeout=file.test.timeout,
        scripts={ending: command(line) for ending, line in file.scripts.items()},
        environment=file.test.environment,
        services=None if file.services is None else tuple(_services(file.services)),
        image=file.sandbox.image,
        setup=file.sandbox.setup,
        prepare=file.test.prepare,
        exclude=tuple(file.context.exclude),
        read=file.context.read,
        trajectories=file.run.trajectories,
        stop=file.run.stop,
        feedback=file.feedback.keep,
        publish_test=file.publish.test,
        fix_ci=file.publish.fix_ci,
    )


def _services(named: _Services) -> Iterator[Service]:
    for kind, port in PORTS.items():
        one: _Service | None = getattr(named, kind)
        if one is not None:
            yield Service(
                kind=kind,
                port=one.port or port,
                user=one.user or "",
                password=one.password,
                roots=one.password,
                databases=(one.database,) if one.database else (),
                hosts=(one.host,) if one.host else (),
            )


def _problem(error: ValidationError, text: str) -> ConfigProblem:
    first = error.errors(include_url=False, include_input=False)[0]
    path = tuple(str(part) for part in first["loc"] if part != "[key]")
    key = ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_written((*path[:-1], name)) for name in _ALLOWED.get(path[:-1], ())) or "nothing more"
        message = f"{key} is not known;{_meant(path)} allowed here: {allowed}"
    elif first["type"] in ("model_type", "dict_type"):
        message = f"{key} must be a table: [{key}] on a line of its own, its keys below"
    else:
        message = f"{key}: {said[:1].lower()}{said[1:]}"
    return ConfigProblem(message=message, key=key, line=_line_of(text, path))


def _written(path: tuple[str, ...]) -> str:
    """`[sandbox]`, or `image` of it."""
    return f"[{path[0]}]" if len(path) == 1 and path[0] != "base" else path[-1]


def _meant(path: tuple[str, ...]) -> str:
    """The key that may be meant: in another table, or spelled a little otherwise; "" where that is not clear."""
    keys = {".".join((*table, name)): (*table, name) for table, names in _ALLOWED.items() for name in names}
    plain = [part.lower().replace("-", "_") for part in path]
    elsewhere = [key for key, parts in keys.items() if parts[-1] == plain[-1] and parts != path]
    found = elsewhere if len(elsewhere) == 1 else difflib.get_close_matches(".".join(plain), keys, 1, 0.75)
    if not found:
        return ""
    meant = keys[found[0]]
    return f" did you mean {_written(meant)}{f' in [{meant[0]}]' if len(meant) > 1 else ''}?"


def _dotted(names: re.Match[str]) -> str:
    return ".".join(re.findall(r"'([^']*)'", names[0]))


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line that most likely holds the key. TOML can spell a key in many ways, so a line may stay unknown."""
    table: tuple[str, ...] = ()
    best: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]", line):
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            if table == path[: len(table)]:
                best = number
        elif key := re.match(r"\s*(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.-]+)\s*=", line):
            name = key[1]
            names = (name.strip("\"'"),) if name[0] in "\"'" else tuple(name.split("."))
            full = (*table, *names)
            if full == path[: len(full)]:
                return number
    return best
