import io
import logging

import pytest

from bot.sanitize.logs import RedactingFormatter, redact_logs
from bot.sanitize.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from http://user:pw@host:1/v1", "no answer from http://[redacted]@host:1/v1"),
        ("redis://:secret@host", "redis://[redacted]@host"),
        ("postgresql+psycopg://a:b%40c@h/d, http://x:y@z", "postgresql+psycopg://[redacted]@h/d, http://[redacted]@z"),
        ("https://host:8000/a@b and ssh://git@host", "https://host:8000/a@b and ssh://git@host"),
        ("see a://b:c, write to d@e", "see a://b:c, write to d@e"),
    ],
)
def test_user_and_password_in_an_address_are_removed(text: str, shown: str) -> None:
    assert redact(text, ()) == shown


def test_records_arguments_and_tracebacks_are_redacted() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    before = [(each, each.formatter) for each in root.handlers]
    root.addHandler(handler)
    try:
        redact_logs(["a-known-secret"])
        log = logging.getLogger("somebody.else")
        log.warning("the key is %s", "a-known-secret")
        try:
            raise ValueError("http://u:p@h refused a-known-secret")
        except ValueError:
            log.exception("it failed")
    finally:
        root.removeHandler(handler)
        for each, formatter in before:
            each.setFormatter(formatter)
    said = out.getvalue()
    assert "WARNING the key is [redacted]" in said
    assert "ValueError: http://[redacted]@h refused [redacted]" in said
    assert "a-known-secret" not in said


@pytest.mark.parametrize(
    "form",
    [
        "a known+secret",
        "%61%20%6b%6e%6f%77%6e%2b%73%65%63%72%65%74",
        "a%20known%2Bsecret",
        b"a known+secret".hex(),
        "eGEga25vd24rc2VjcmV0",
    ],
)
def test_encoded_secrets_are_redacted_in_logs_too(form: str) -> None:
    formatter = RedactingFormatter(logging.Formatter(), ["a known+secret"])
    said = formatter.format(logging.LogRecord("x", logging.INFO, "f", 1, f"it is {form}.", (), None))
    assert "[redacted]" in said
    assert form not in said


def test_a_record_that_cannot_be_formatted_still_raises() -> None:
    formatter = RedactingFormatter(logging.Formatter(), [])
    with pytest.raises(TypeError):
        formatter.format(logging.LogRecord("x", logging.INFO, "f", 1, "%d", ("word",), None))


def test_attack_41_no_text_begins_a_record_of_its_own() -> None:
    formatter = RedactingFormatter(logging.Formatter("%(levelname)s %(message)s"), [])
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a\nERROR forged\r\n\x1b[2Kb\x1b[1A\u202ec", (), None)
    assert formatter.format(record) == "INFO a\n    ERROR forged\n    \\x1b[2Kb\\x1b[1A\\u202ec"
    record.msg = formatter.format(record)
    assert formatter.format(record).count("\n    ERROR") == 1
