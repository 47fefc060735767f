"""A service's log as JSON: one object a line, with ids, without secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from structlog.contextvars import bound_contextvars

from bot.sanitize.logs import configure_logs, json_formatter
from bot.settings import Settings

KEY = "-----BEGIN KEY-----\nMIIEabcdefgh\n-----END KEY-----\n"
log = logging.getLogger("bot.of.a.test")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(json_formatter(["the-secret", KEY]))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield out
    log.removeHandler(handler)


def test_a_line_has_what_is_bound(lines: io.StringIO) -> None:
    with bound_contextvars(run=7, delivery='g"\n1'):
        log.info("run %d: %s", 7, 'two\nlines and "quotes"')
    log.warning("after")
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert (first["event"], first["level"]) == ('run 7: two\nlines and "quotes"', "info")
    assert (first["run"], first["delivery"], first["logger"]) == (7, 'g"\n1', log.name)
    assert first["timestamp"].endswith("Z")
    assert not {"run", "delivery"} & set(second)


def test_an_exception_is_one_line_and_no_secret_is_told(lines: io.StringIO) -> None:
    try:
        raise ValueError(f"the-secret and {KEY}")
    except ValueError:
        log.exception("it failed with %s", "the-secret")
    [line] = lines.getvalue().splitlines()
    found = json.loads(line)
    assert "Traceback" in found["exception"]
    assert "ValueError" in found["exception"]
    assert "the-secret" not in line
    assert "MIIEabcdefgh" not in line


def test_text_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    root, bot = logging.getLogger(), logging.getLogger("bot")
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(bot, "level", bot.level)
    try:
        configure_logs(Settings(_env_file=None, token="the-secret"))
        logging.getLogger("bot.x").warning("a line with the-secret")
        configure_logs(Settings(_env_file=None, token="the-secret", log_format="json"))
        logging.getLogger("bot.x").warning("another with the-secret")
    finally:
        logging.captureWarnings(False)
    first, second = out.getvalue().splitlines()
    assert first.startswith("a line with ")
    assert json.loads(second)["event"].startswith("another with ")
    assert "the-secret" not in out.getvalue()
