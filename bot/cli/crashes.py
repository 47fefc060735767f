"""Tracebacks of errors that nobody catches, without secrets: an address or a key may be in any error's words."""

import logging
import os
import re
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

_SECRET = re.compile(r"TROOP_\w*(?:KEY|SECRET|TOKEN|PASSWORD)")

log = logging.getLogger(__name__)


def redact_crashes() -> None:
    """From now on, in threads as well. The log has them, in its own form."""
    sys.excepthook = _told
    threading.excepthook = lambda given: _told(given.exc_type, given.exc_value, given.exc_traceback)
    sys.unraisablehook = lambda given: _told(given.exc_type, given.exc_value, given.exc_traceback)


def redacted(text: str) -> str:
    """The text without the secrets of this process."""
    from bot.sanitize import redact

    return redact(text, _secrets())


def _told(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    from bot.sanitize.logs import redact_logs

    if issubclass(kind, SystemExit) or error is None:
        return
    logging.basicConfig()  # where the command has not come to it
    redact_logs(_secrets())
    log.critical("an error that nobody expected", exc_info=(kind, error, trace))


def _secrets() -> Sequence[str]:
    """Those of the settings, as far as they can be read, and of variables that are named as secrets."""
    from bot.settings import read_settings

    named = [value for name, value in os.environ.items() if value and _SECRET.fullmatch(name)]
    try:
        return (*read_settings().secrets(), *named)
    except Exception:  # of which the command has told, or is about to
        return named
