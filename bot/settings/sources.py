"""Where settings come from: the environment, `.env`, files. Reads them, names what is wrong, tells each source."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeGuard

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError as Unparsable

from bot.errors import SettingsError
from bot.settings.credentials import MASK, masked_address, secret_assignment
from bot.settings.files import SECRETS, SUFFIX, names_in, variables_in
from bot.settings.models import Settings

PREFIX = "TROOP_"
DOTENV = Path(".env")

# What deploy/compose.yaml reads of the same file, and `troop engine` of the environment; `bot` itself does not.
OF_COMPOSE = (
    *("BASE_IMAGE", "BIND", "CADDY_IMAGE", "DOCKER_HOST", "DOCKER_SOCKET", "DOMAIN", "ENGINE_IMAGE", "ENV_FILE"),
    *("GRAFANA_IMAGE", "IMAGE", "MODELS", "PAGES_BIND", "POSTGRES_IMAGE", "PROMETHEUS_IMAGE", "REDIS_IMAGE"),
    *("SECRETS", "VERSION"),
)
OF_ENGINE = ("ENGINE_API_KEY", "ENGINE_CALIBRATION", "MODEL_CACHE", "NATIVE_KERNELS")
# Kubernetes gives each container such variables of a Service that is called `troop` (enableServiceLinks).
_OF_KUBERNETES = re.compile(r"TROOP_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")
_NEAR = 0.6  # of 1: how much alike two names are of which one may be meant for the other
_MEANT = 0.86  # ... where the prefix is wrong, too


class Variable(NamedTuple):
    """One setting: `TROOP_SANDBOX_IMAGE`, and where it is in the models: `("sandbox", "image")`."""

    name: str
    place: tuple[str, ...]
    field: FieldInfo

    @property
    def has_file(self) -> bool:
        """Whether `NAME_FILE` may name a file that holds it."""
        return "_".join(self.place) in SECRETS

    def value(self, settings: Settings) -> object:
        """Its value in those settings."""
        found: object = settings
        for part in self.place:
            found = getattr(found, part)
        return found


def variables() -> Iterator[Variable]:
    """All settings, in the models' order."""
    for name, field in Settings.model_fields.items():
        if not is_part(field.annotation):
            yield Variable(f"{PREFIX}{name}".upper(), (name,), field)
    for name, field in Settings.model_fields.items():
        if is_part(field.annotation):
            for inner, of_part in field.annotation.model_fields.items():
                yield Variable(f"{PREFIX}{name}_{inner}".upper(), (name, inner), of_part)


def is_part(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether it is the model of a part, such as `SandboxSettings`."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def read_settings() -> Settings:
    """Read the environment, `.env` and the secrets' files. Raises `SettingsError`, which names what can't be used."""
    try:
        folder = secrets_folder()
        if folder.is_file():
            raise SettingsError(f"TROOP_SECRETS_DIR: {folder} is a file, not a folder of files; correct it")
        return Settings(_secrets_dir=folder) if folder.is_dir() else Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)  # the input may be a secret
        found = [f"{_of_place(p['loc'])}{p['msg'].removeprefix('Value error, ')}" for p in problems]
        raise SettingsError(f"{'; '.join(found)}: correct it in the environment or .env") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{DOTENV} is not text in UTF-8, as some editors of Windows save it; save it so") from None
    except (Unparsable, OSError) as error:
        raise SettingsError(f"{error}: correct it in the environment or .env") from None


def secrets_folder() -> Path:
    """`TROOP_SECRETS_DIR`, wherever it is set; it may not be there."""
    name = f"{PREFIX}SECRETS_DIR"
    found = _variables(os.environ).get(name) or _variables(_of_dotenv()).get(name)
    return Path(found or str(Settings.model_fields["secrets_dir"].default))


def _of_place(place: tuple[int | str, ...]) -> str:
    """`TROOP_PORT: `; "" for what concerns several, whose message names them."""
    names = [part for part in place if isinstance(part, str)]
    return f"{'_'.join((PREFIX.rstrip('_'), *names)).upper()}: " if names else ""


def unknown_variables() -> tuple[str, ...]:
    """Variables of the environment, of `.env` and of the secrets' folder that begin with TROOP_ but are no settings."""
    known = _known()
    files = {name.upper() for name in names_in(secrets_folder()) if name.isidentifier()}  # not `NAME.old`
    named = {*_variables(os.environ), *_variables(_of_dotenv()), *files}
    return tuple(sorted(name for name in named if name not in known and not _OF_KUBERNETES.fullmatch(name)))


def misspelt() -> tuple[str, ...]:
    """A sentence for each line and variable that nobody reads, with the one that may be meant."""
    known = sorted(_known())
    bare = [name.removeprefix(PREFIX) for name in known]  # the prefix would make all names alike
    told = [
        f"line {line} of {DOTENV} can't be read: it is NAME=VALUE, with quotes that are closed" for line in _broken()
    ]
    for name in unknown_variables():
        near = difflib.get_close_matches(name.removeprefix(PREFIX), bare, 1, _NEAR)
        told.append(f"{name} is no setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else "; remove it"))
    for name in sorted({*os.environ, *_of_dotenv()}):
        if not name.upper().startswith(PREFIX) and (near := difflib.get_close_matches(name.upper(), known, 1, _MEANT)):
            told.append(f"{name} is no setting; did you mean {near[0]}?")
    return tuple(told)


def _known() -> frozenset[str]:
    """All names that may be set, in capitals."""
    names = {f"{PREFIX}{name}" for name in (*OF_COMPOSE, *OF_ENGINE)}
    for variable in variables():
        names.add(variable.name)
        if variable.has_file:
            names.add(f"{variable.name}{SUFFIX}")
    return frozenset(
        names | {f"{PREFIX}{n}".upper() for n, f in Settings.model_fields.items() if is_part(f.annotation)}
    )


def _broken() -> Iterator[int]:
    """The numbers of lines in `.env` that are no assignment, which python-dotenv leaves out."""
    if DOTENV.is_file():
        with DOTENV.open(encoding="utf-8") as stream:
            for text, line in (binding.original for binding in parse_stream(stream) if binding.error):
                yield line + text[: len(text) - len(text.lstrip())].count("\n")  # empty ones before it are part of it


def _of_dotenv() -> dict[str, str | None]:
    try:
        return dotenv_values(DOTENV, interpolate=False) if DOTENV.is_file() else {}
    except OSError as error:
        raise SettingsError(f"{DOTENV}: {error}: correct it in the environment or .env") from None


def _variables(found: Mapping[str, str | None]) -> dict[str, str]:
    """Those that are Troop's, names in capitals; an empty one counts as not set."""
    return {name.upper(): value or "" for name, value in found.items() if name.upper().startswith(PREFIX)}


class Origin(NamedTuple):
    """A setting's value in words, and where it comes from."""

    variable: Variable
    value: str
    source: str


def origins(settings: Settings) -> Iterator[Origin]:
    """Each setting with its value and source. No secret is shown; passwords in addresses are left out."""
    folder = secrets_folder()
    places: list[tuple[str, Mapping[str, str]]] = [
        ("environment", _variables(os.environ)),
        (str(DOTENV), _variables(_of_dotenv())),
        (str(folder), {name.upper(): value or "" for name, value in variables_in(folder).items()}),
    ]
    for variable in variables():
        yield Origin(variable, shown(variable.value(settings)), _source(variable, places))


def _source(variable: Variable, places: list[tuple[str, Mapping[str, str]]]) -> str:
    for place, found in places:
        if found.get(variable.name):
            return place
        if variable.has_file and (path := found.get(f"{variable.name}{SUFFIX}")):
            return f"{path} ({variable.name}{SUFFIX} in {place})"
    if variable.place in (("github_url",), ("github_web_url",)) and _one_is_set(places):
        return "derived"
    return "default"


def _one_is_set(places: list[tuple[str, Mapping[str, str]]]) -> bool:
    return any(found.get(name) for _, found in places for name in (f"{PREFIX}GITHUB_URL", f"{PREFIX}GITHUB_WEB_URL"))


def shown(value: object) -> str:
    """A value for people: no secret, and no password of an address."""
    match value:
        case SecretStr():
            return "(set)" if value.get_secret_value() not in ("", "none") else "(empty)"
        case tuple():
            return " ".join(_without_secret(str(word)) for word in value) or "(empty)"
        case None | "":
            return "(empty)"
        case str():
            return masked_address(value) if "://" in value else value
        case _:
            return str(value)


def _without_secret(word: str) -> str:
    name, assigned, _ = word.partition("=")
    return f"{name}={MASK}" if assigned and secret_assignment(word) else word
