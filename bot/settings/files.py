"""Secrets out of files: `TROOP_..._FILE` for each, and the folder `TROOP_SECRETS_DIR` with one file a setting."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from bot.atomic import OWN, write_text
from bot.errors import SettingsError

# What may hold a secret. The private key's file is a setting of its own, since it is read again when it changes.
SECRETS = (
    "token",
    "webhook_secret",
    "webhook_secret_previous",
    "client_secret",
    "admin_token",
    "main_api_key",
    "relevance_api_key",
    "database_url",
    "redis_url",
)
SUFFIX = "_FILE"
_PREFIX = "troop_"
_LARGEST = 1 << 20  # bytes


def with_files(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """The source, where each `TROOP_X_FILE` is `TROOP_X` with what the file holds. Raises `SettingsError`."""
    if isinstance(source, EnvSettingsSource):
        source.env_vars = resolved(source.env_vars)
    return source


def resolved(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables (names in lower case) with the content of the files that they name. Raises `SettingsError`."""
    found = dict(variables)
    for setting in SECRETS:
        name = f"{_PREFIX}{setting}"
        path = found.pop(f"{name}{SUFFIX}".lower(), None)
        if not path:
            continue
        if found.get(name):
            upper = name.upper()
            raise SettingsError(f"{upper} and {upper}{SUFFIX} are both set: remove one of them")
        found[name] = secret_in(Path(path), f"{name.upper()}{SUFFIX}")
    return found


def secret_in(path: Path, variable: str) -> str:
    """What the file holds, without white space around it. Raises `SettingsError`, which says what is in the way."""
    text = text_of(path, variable).strip()
    if not text:
        raise SettingsError(f"{variable}: {path} is empty; write the secret into it")
    return text


def text_of(path: Path, variable: str) -> str:
    """The file as text, with plain line ends. Raises `SettingsError`, which says why it can't be read."""
    try:
        if path.is_dir():
            raise SettingsError(
                f"{variable}: {path} is a folder, not a file; Docker makes one where a mount names a file that is not "
                "there: remove it, and put the file in its place"
            )
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise SettingsError(f"{variable}: {path} is larger than any secret")
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise SettingsError(f"{variable}: {path} is not there; correct the path, or put the file there") from None
    except PermissionError:
        raise SettingsError(
            f"{variable}: {path} can't be read by user {_user()}: give it the file (`chown {_user()} {path}`)"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: {path} is not text in UTF-8: save it so, or name another file") from None
    except OSError as error:
        raise SettingsError(f"{variable}: {path} can't be read ({error.strerror or error})") from None


def _user() -> int:
    return os.geteuid()


class FileSource(EnvSettingsSource):
    """The folder of secrets: a file `troop_x` (in any case) is the variable TROOP_X. No folder: nothing."""

    def __init__(self, settings_cls: type[BaseSettings], folder: object) -> None:
        super().__init__(settings_cls)
        self.env_vars = variables_in(Path(str(folder))) if folder else {}


def names_in(folder: Path) -> tuple[str, ...]:
    """The folder's files that are meant for variables, as they are called. Raises `SettingsError`."""
    try:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise SettingsError(
            f"TROOP_SECRETS_DIR: {folder} can't be read by user {_user()} ({error.strerror}): give it the folder, "
            "or name another"
        ) from None
    return tuple(name for name in names if name.lower().startswith(_PREFIX))


def variables_in(folder: Path) -> dict[str, str | None]:
    """The variables that the folder's files are, names in lower case. Raises `SettingsError` for an unreadable one."""
    return {name.lower(): secret_in(folder / name, "TROOP_SECRETS_DIR") for name in names_in(folder)}


def check_writable(folder: Path, variable: str) -> None:
    """Make the folder for this user alone. Raises `SettingsError` where nothing can be written in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"{variable}: {folder} can't be written by user {_user()} ({error.strerror}): give it the folder, "
            "or name another"
        ) from None


def write_secrets(folder: Path, values: Mapping[str, str]) -> None:
    """A file for each, of mode 0600, in order; each is whole or not there. Raises `SettingsError`."""
    check_writable(folder, "TROOP_SECRETS_DIR")
    try:
        for name, value in values.items():
            write_text(folder / name, value.rstrip("\n") + "\n", OWN)
    except OSError as error:
        raise SettingsError(f"TROOP_SECRETS_DIR: {folder} can't be written ({error.strerror})") from None
