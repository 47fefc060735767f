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


def test_attack_35_no_secret_is_told_in_what_is_bound(lines: io.StringIO) -> None:
    with bound_contextvars(run=["the-secret", {"key": "the-secret"}], delivery="the-secret"):
        log.info("x")
    assert "the-secret" not in lines.getvalue()


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


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process logs whose console is told warnings."""
    out = io.StringIO()
    root, bot = logging.getLogger(), logging.getLogger("bot")
    levels = root.level, bot.level
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(out)])
    root.setLevel(logging.WARNING)
    yield out
    root.setLevel(levels[0])
    bot.setLevel(levels[1])
    logging.captureWarnings(False)


def test_text_stays_text(out: io.StringIO) -> None:
    configure_logs(Settings(_env_file=None, token="the-secret"))
    logging.getLogger("bot.x").warning("a line with the-secret")
    configure_logs(Settings(_env_file=None, token="the-secret", log_format="json"))
    logging.getLogger("bot.x").warning("another with the-secret")
    first, second = out.getvalue().splitlines()
    assert first.startswith("a line with ")
    assert json.loads(second)["event"].startswith("another with ")
    assert "the-secret" not in out.getvalue()


@pytest.mark.parametrize(
    ("level", "own", "of_others"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_the_level_is_the_settings(out: io.StringIO, level: str, own: list[str], of_others: list[str]) -> None:
    configure_logs(Settings.model_validate({"log_level": level}))
    for name in ("bot.x", "somebody.else"):
        for one in ("debug", "info", "warning", "error"):
            logging.getLogger(name).log(logging.getLevelName(one.upper()), f"{name} {one}")
    assert out.getvalue().split("\n") == [*(f"bot.x {o}" for o in own), *(f"somebody.else {o}" for o in of_others), ""]
