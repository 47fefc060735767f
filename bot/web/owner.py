"""The admin token of the machine's owner: where none is set, one is made, in a file for this user alone."""

import logging
import os
import secrets
from contextlib import suppress

from pydantic import SecretStr

from bot.errors import SettingsError
from bot.settings import Settings
from bot.settings.files import check_writable, secret_in

FILE = "troop_admin_token"  # read again at the next start, as all of the folder

log = logging.getLogger(__name__)


def with_admin_token(settings: Settings) -> Settings:
    """The settings with a token. Without a folder that can be written there is none, which the log says."""
    if settings.admin_token.get_secret_value() or not settings.pages.port:
        return settings
    path = settings.secrets_dir / FILE
    try:
        check_writable(settings.secrets_dir, "TROOP_SECRETS_DIR")
        with suppress(FileExistsError), open(path, "x", opener=_private) as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        token = secret_in(path, "TROOP_SECRETS_DIR")
    except (OSError, SettingsError) as error:
        log.warning("the pages have no admin token: %s; set TROOP_ADMIN_TOKEN", error)
        return settings
    log.info("the admin token of the pages is in %s", path)
    return settings.model_copy(update={"admin_token": SecretStr(token)})


def _private(path: str, flags: int) -> int:

    return os.open(path, flags, 0o600)
