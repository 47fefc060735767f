"""Entry point of the command `troop`: from its first moment a signal ends it in order.

Loading what the command needs takes a second, in which Python's own answers to signals are a traceback and silence.
"""

import json
import os
import signal
import sys
from types import FrameType

from bot.cli.one_object import command_of, failure, owed_by

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a terminal that is closed
_RAISING = ("solve", "verify")  # commands that a signal ends by an exception; servers see to signals themselves
_SAID = "troop: interrupted; run the same command again to continue\n"


class Interrupted(KeyboardInterrupt):
    """A signal came while nothing else answers it. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Run the command of `sys.argv`."""
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _while_loading) for number in numbers}
    from bot.cli.main import main as command

    raises = command_of(sys.argv[1:]) in _RAISING
    for number in numbers:
        signal.signal(number, _raise if raises else before[number])
    command()


def _while_loading(number: int, _: FrameType | None) -> None:
    """Nothing has begun, so nothing needs to be ended; an exception might be lost in what is just loaded."""
    os.write(2, _SAID.encode())
    if command := owed_by(sys.argv[1:]):
        os.write(1, (json.dumps(failure(command, "interrupted")) + "\n").encode())
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)
