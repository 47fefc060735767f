"""Whether another interpreter was made in the process of a test. Standard library only, Python 3.8+.

Executed by `runner.py` for `watch.py`, never imported itself. It has no audit hook, so none may be made.
Up to 3.12 an event tells of each. From 3.13 on none does, but each has the next number, so that in the end one more
tells whether there were others. None is made where the module that makes them was not imported (asyncio does so).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAKES_INTERPRETERS = "_interpreters"  # the module


def interpreting(sign: Callable[[bytes], int], source: bytes) -> tuple[Callable[[str], None], Callable[[], None]]:
    """What is told which module is imported; and what withdraws the proof in the end where an interpreter was made, but
    where the script itself makes some."""
    name, known = MAKES_INTERPRETERS, MAKES_INTERPRETERS in sys.modules
    try:
        made = __import__(name)
    except ImportError:
        return (lambda _: None), (lambda: None)
    create, destroy, imported = made.create, made.destroy, [known]
    if not known:
        del sys.modules[name]

    def note(module: str) -> None:
        imported[0] = imported[0] or module == name

    def last() -> None:
        if imported[0]:
            number = create()
            destroy(number)
            if number != 1:
                sign(b"void an interpreter")

    return note, (lambda: None) if b"nterpreter" in source else last
