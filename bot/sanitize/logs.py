"""Removes secrets from what a service logs, tracebacks and other libraries' records included."""

import logging
from collections.abc import Sequence

from bot.sanitize.redact import redact


class RedactingFormatter(logging.Formatter):
    """Another formatter's text without secrets."""

    def __init__(self, inner: logging.Formatter, secrets: Sequence[str]) -> None:
        super().__init__()
        self._inner = inner
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._inner.format(record), self._secrets)


def redact_logs(secrets: Sequence[str]) -> None:
    """Have every handler of the root logger redact from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter(), secrets))
