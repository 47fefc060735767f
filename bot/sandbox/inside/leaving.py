"""Whether a script ended itself. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. `sys.exit` is a builtin and leaves no frame: called as a
method of a candidate's value (`__str__ = sys.exit`), by an iterator or by an event loop, it ends the script well in the
middle of a check. So a script that ends so must have called by its name what exits, or a library's function that does.
"""

from __future__ import annotations

import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.checked import EXITS, LEAVING, OF_TREE, _names
    from bot.sandbox.inside.meant import nodes


def exits_of(tree: Any) -> set[str]:
    """Names by which the script exits."""
    found = {*EXITS}
    for node in nodes(tree):
        kind = type(node).__name__
        if kind == "ImportFrom" and node.module in ("sys", "builtins"):
            found.update(alias.asname for alias in node.names if alias.asname and alias.name in EXITS)
        if kind == "Assign" and _names(node.value)[0] in EXITS:
            found.update(target.id for target in node.targets if type(target).__name__ == "Name")
    return found - OF_TREE


def leaving(script: str) -> tuple[dict[str, Callable[[Any, Any], None]], Callable[[Any], bool]]:
    """What notes that the script is about to exit, and whether it was the script that raised the `SystemExit`.

    `script`: its file's name, as its code has it. All names are bound here: what is judged may change this module.
    """
    left, exits, kind_of, method = [False], EXITS, type, types.MethodType
    traceback_of = BaseException.__dict__["__traceback__"].__get__

    def leaves(_: Any, __: Any) -> None:
        left[0] = True

    def ended_itself(error: Any) -> bool:
        traceback = traceback_of(error)
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        code = traceback.tb_frame.f_code
        if left[0] or code.co_filename != script:
            return left[0] or "exit" in code.co_names
        has_checks = any(kind_of(one) is method for one in code.co_consts)
        return not (has_checks or exits.isdisjoint(code.co_names))

    return {LEAVING: leaves}, ended_itself
