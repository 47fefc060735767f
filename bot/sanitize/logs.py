"""Removes secrets from what a service logs, tracebacks and other libraries' records included."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import structlog
from structlog.typing import EventDict

from bot.sanitize.characters import visible
from bot.sanitize.redact import plain_forms, redact, redact_strings
from bot.settings import Settings


def entry(text: str) -> str:
    """A record's text, in which nothing looks like the beginning of another record, and no terminal obeys anything."""
    return re.sub(r"\n(?!    )", "\n    ", visible(text))


class RedactingFormatter(logging.Formatter):
    """Another formatter's text without secrets."""

    def __init__(self, inner: logging.Formatter, secrets: Sequence[str]) -> None:
        super().__init__()
        self._inner = inner
        self._secrets = tuple(secrets)
        self._forms = tuple(form for secret in secrets for form in plain_forms(secret))

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record)
        # Every delivery has a line: the thorough search is for those that hold a secret.
        return entry(redact(text, self._secrets if any(form in text for form in self._forms) else ()))


def redact_logs(secrets: Sequence[str]) -> None:
    """Have every handler of the root logger redact from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter(), secrets))


def configure_logs(settings: Settings) -> None:
    """How a service logs: at its own level, whatever the console's; without secrets; as JSON where asked.

    Libraries log at the console's level, or at the service's where that is higher. In JSON the lines of one delivery,
    run or command have its id in `delivery`, `run` or `command`.
    """
    bot, root = logging.getLogger("bot"), logging.getLogger()
    bot.setLevel(settings.log_level.upper())
    root.setLevel(max(root.level, bot.level))
    logging.captureWarnings(True)
    secrets = settings.secrets()
    if settings.log_format == "json":
        for handler in root.handlers:
            handler.setFormatter(json_formatter(secrets))
    else:
        redact_logs(secrets)


def json_formatter(secrets: Sequence[str]) -> logging.Formatter:
    """One JSON object a line: `timestamp`, `level`, `logger`, `event`, `exception`, and the ids that are bound."""

    def redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
        # Before it is JSON, in which a key of several lines looks different.
        return {name: redact_strings(value, secrets) for name, value in event.items()}

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redacted,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
    )
