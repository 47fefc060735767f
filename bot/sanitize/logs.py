"""Removes secrets from what a service logs, tracebacks and other libraries' records included."""

import logging
from collections.abc import Sequence

from bot.sanitize.redact import plain_forms, redact


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
        return redact(text, self._secrets if any(form in text for form in self._forms) else ())


def redact_logs(secrets: Sequence[str]) -> None:
    """Have every handler of the root logger redact from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter(), secrets))
