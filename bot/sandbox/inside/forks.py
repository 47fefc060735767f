"""Checks in processes that a script's own was forked into. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. A script may fork, by itself or by a library of the tree
that calls its functions in another process. A candidate may not fork and go on with the script in each process, so that
one is told by the other's end which answer is right: where the call that forked has returned, the process is killed at
the next check. Nor may it see an assertion fail in a process of its own: that ends the script.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import BROKE, FAILED


def forking(script: str, of_changed: Callable[[str], bool]) -> Callable[[str], None]:
    """What a check of any kind begins with in another process than the script's.

    `script`: its file's name, as its code has it; `of_changed`: whether code of a file of that name
    is the candidate's.

    All names are bound here: what is judged may change this module.
    """
    getframe, getpid, kill = sys._getframe, os.getpid, os.kill
    owner, failures = os.getpid(), (BROKE, FAILED)
    noted = [owner]  # the process that the hook saw last
    makers: list[Any] = []  # calls of the candidate's that forked, on the way to this process

    def note() -> None:
        noted[0] = getpid()
        frame: Any = getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if name == script:
                return
            if of_changed(name):
                makers.append(frame)
                return
            frame = frame.f_back

    def going_on() -> bool:
        """Whether a call that forked is over."""
        left = [*makers]
        frame: Any = getframe(2)
        while frame is not None:
            left = [maker for maker in left if maker is not frame]
            frame = frame.f_back
        return bool(left)

    def forked(what: str) -> None:
        mine = getpid()
        if noted[0] != mine or going_on():
            kill(mine, 9)
        if makers and what in failures:
            kill(owner, 9)
            kill(mine, 9)

    os.register_at_fork(after_in_child=note)
    return forked
