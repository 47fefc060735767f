import asyncio
import json
import os
import signal

import pytest
from click.testing import CliRunner

from bot.cli import verify
from bot.cli.main import cli
from bot.cli.running import SAID, finished
from bot.cli.signals import Ending


async def signalled(*numbers: int) -> str:
    """Work that gets these signals, and cleans up after the first."""
    try:
        signal.raise_signal(numbers[0])
        await asyncio.Event().wait()
    finally:
        for number in numbers[1:]:
            signal.raise_signal(number)
        await asyncio.sleep(0)  # what is cleaned up awaits, too
        print("cleaned up")
    return "never"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_ends_the_work_in_order(number: int, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        finished(lambda: signalled(number))
    assert ended.value.code == code
    assert capfd.readouterr() == ("cleaned up\n", "troop: interrupted\n")
    assert signal.getsignal(number) == before


def test_the_second_is_answered_and_does_not_break_what_is_cleaned_up(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        finished(lambda: signalled(signal.SIGINT, signal.SIGTERM))
    assert ended.value.code == 130
    output, errors = capfd.readouterr()
    assert output == "cleaned up\n"
    assert errors.splitlines()[0].startswith("troop: ending what was started; once more ends at once")


def test_the_third_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with pytest.raises(SystemExit):
        finished(lambda: signalled(signal.SIGTERM, signal.SIGINT, signal.SIGINT))
    assert codes == [130]


def test_a_signal_before_the_work_begins_is_not_lost() -> None:
    begun: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0)
        begun.append(True)

    with Ending() as ending:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ending.run(work()))
    assert (ending.code, begun) == (143, [])


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def work() -> str:
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0)
            return "done"

        assert finished(work) == "done"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_that_has_said_so_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        try:
            await signalled(signal.SIGINT)
        except asyncio.CancelledError as error:
            error.add_note(SAID)
            raise

    with pytest.raises(SystemExit):
        finished(work)
    assert capfd.readouterr().err == ""


def test_an_interrupted_verification_prints_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_verify", lambda *_: signalled(signal.SIGTERM))
    done = CliRunner().invoke(cli, ["verify", "-", "--json"])
    assert done.exit_code == 143
    assert json.loads(done.stdout.removeprefix("cleaned up\n")) == {"same": None, "error": "interrupted"}
    assert done.stderr == "troop: interrupted\n"
