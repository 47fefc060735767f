"""What is asked at the checks in a test script, beside what is compared there. Standard library only, Python 3.8+.

Executed by `runner.py` for `guard.py`, never imported itself. All names are bound when the questions are made: what is
judged may change this module.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.agreeing import _GROUPS, _PLAIN
    from bot.sandbox.inside.checked import (
        _ARITHMETIC,
        _OPERATORS,
        BROKE,
        ENTERED,
        FAILED,
        FIRST,
        HELD,
        LEFT,
        LOOK,
        MADE,
        MATCHED,
        MEANT,
        RAISED,
        RECEIVER,
        SECOND,
    )
    from bot.sandbox.inside.meant import nodes
    from bot.sandbox.inside.rarely import rarely

_OFTEN = 60  # checks in one line: a loop of assertions must not take long
_DEAR = 4  # checks as one look at all tools
_ORDERS = ("==", "ne", "<", ">", "close")
_SKIPS = frozenset(("SkipTest", "Skipped", "XFailed"))
_PREPARING = frozenset((  # methods of a test that judge nothing
    *("setUp", "tearDown", "setUpClass", "tearDownClass", "asyncSetUp", "asyncTearDown"),
))  # fmt: skip


def _shadowing(foreign: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a test's own attributes, or its class's, stand before methods of unittest's."""
    bases, space = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
    kind_of, is_text, preparing = type, str.startswith, _PREPARING

    def shadowing(test: Any) -> bool:
        order = bases(kind_of(test))
        modules = [base.__module__ for base in order]
        tools = [at for at, name in enumerate(modules) if is_text(name, "unittest.") and name != "unittest.mock"]
        if not tools:
            return False
        inside, methods = vars(test), space(order[tools[-1]])
        equal = inside.get("_type_equality_funcs", {}).values()
        if "failureException" in inside or any(callable(one) and foreign(one) for one in equal):
            return True
        before = [inside, *(space(base) for base in order[: tools[0]])]
        planted = [
            value
            for names in before
            for name, value in list(names.items())
            if name in methods and name not in preparing and callable(value)
        ]
        return any(foreign(value) for value in planted)

    return shadowing


def _failing(of_changed: Callable[[str], bool]) -> tuple[Callable[[], bool], Callable[[], bool]]:
    """Whether the exception that is handled makes a test fail, or is a candidate's that skips it; whether that."""
    now, exits, bases = sys.exc_info, SystemExit, type.__dict__["__mro__"].__get__
    skips = _SKIPS

    def by_candidate() -> bool:
        traceback = now()[2]
        while traceback is not None:
            if of_changed(traceback.tb_frame.f_code.co_filename):
                return True
            traceback = traceback.tb_next
        return False

    def skipping() -> bool:
        kind = now()[0]
        return kind is not None and not skips.isdisjoint(base.__name__ for base in bases(kind))

    def failing() -> bool:
        kind = now()[0]
        if by_candidate():
            return True
        if kind is None or skipping() or kind.__module__.startswith("hypothesis"):
            return False
        return not issubclass(kind, exits)

    return failing, lambda: skipping() and by_candidate()


def chained(compare: Callable[..., Any], source: str, void: Callable[[str], None]) -> Callable[[Any, Any], Any]:
    """What compares several values as Python does: `(values, (line, whether loosely, operator, ...))`. What is no
    number is neither too large nor too small, so that nothing is found wrong with it: not in scripts that name it."""
    orders, is_a, number, differs = ("<", "<=", ">", ">="), isinstance, float, float.__ne__
    named = "nan" in source.lower()

    def is_none(value: Any) -> bool:
        return is_a(value, number) and bool(differs(value, value))

    def compared(values: Any, asked: tuple[Any, ...]) -> Any:
        place, loose, *operators = asked
        answer: Any = None
        for at, operator in enumerate(operators):
            how = "in" if operator == "not-in" else operator
            if how in orders and not named and (is_none(values[at]) or is_none(values[at + 1])):
                void("an order of what is no number")
            answer = compare(values[at], how, values[at + 1], loose, place=place)
            if how is not operator:
                answer = not answer
            if at + 1 < len(operators) and not answer:
                return answer
        return answer

    return compared


def asking_alone(ask: Callable[[Any, str, bool], int]) -> dict[str, Callable[[Any, Any], Any]]:
    """What asks a value by itself: about an operator; about all, where the tree's code made it; or for a `match`."""
    kind_of, plain, groups, orders, (due, spent) = type, _PLAIN, {*_GROUPS, dict}, _ORDERS, rarely(_OFTEN)

    def made(value: Any, line: str) -> None:
        if kind_of(value) not in plain and due(line):
            for how in orders[:1] if kind_of(value) in groups else orders:
                spent(line, ask(value, how, False))

    def matched(value: Any, _: Any) -> None:
        ask([value, *getattr(value, "__dict__", {}).values()], "==", False)

    def about(how: str) -> Callable[[Any, Any], Any]:
        return lambda value, loose: ask(value, how, loose)

    return {MADE: made, MATCHED: matched, **{how: about(how) for how in (*_OPERATORS.values(), *_ARITHMETIC.values())}}


def _pairs(compare: Callable[..., Any]) -> dict[str, Callable[[Any, Any], None]]:
    """What compares the second argument of a call with the first one, as the call will."""
    waiting: dict[int, list[Any]] = {}
    ident = __import__("_thread").get_ident

    def first(value: Any, _: Any) -> None:
        waiting.setdefault(ident(), []).append(value)

    def second(value: Any, asked: Any) -> None:
        left = waiting[ident()].pop()
        place, how = asked
        try:
            compare(left, how, value, True, False, place)
        except Exception:  # what is called will get the same
            return

    return {FIRST: first, SECOND: second}


def _catching(tree: Any) -> list[range]:
    """Lines of the script from which it catches exceptions itself."""
    blocks = [one.body for one in nodes(tree) if getattr(one, "handlers", ()) or hasattr(one, "items")]
    return [range(body[0].lineno, body[-1].end_lineno + 1) for body in blocks]


def _asserted(body: list[Any]) -> Iterator[str]:
    """Lines of the assertions that are reached where nothing is raised before them."""
    for node in body:
        if type(node).__name__ == "Assert" and node.lineno not in MEANT:
            yield str(node.lineno)
        if hasattr(node, "items"):
            yield from _asserted(node.body)
        if type(node).__name__ in ("Raise", "Return", "Continue", "Break"):
            return


def _keeping(is_changed: Callable[[str], bool]) -> Callable[[Any], bool]:
    """Whether a manager may keep a failure for a changed file: it is of one, or a stack, to which anybody adds."""
    get, kind_of = getattr, type

    def by_others(manager: Any) -> bool:
        exits = [get(kind_of(manager), name, None) for name in ("__exit__", "__aexit__")]
        codes = [get(one, "__code__", None) for one in exits]
        return get(manager, "_exit_callbacks", None) is not None or any(
            code is not None and is_changed(code.co_filename) for code in codes
        )

    return by_others


def swallowing(
    tree: Any, source: str, script: str, is_changed: Callable[[str], bool]
) -> tuple[dict[str, Callable[[Any, Any], None]], Callable[[], bool]]:
    """What notes assertions of the script that broke, or were not reached in a `with`; whether such a failure, of what
    never held later, was kept by a changed file, or by the standard library (a thread, a future), but for test tools.

    Who caught an exception is the outermost frame that it reached, or C beyond that; of a `with` it may be the
    manager's `__exit__`. A `subTest` keeps a skip. `script`: its file's name, as its code has it.
    """
    now, is_text, by_others, skipping = sys.exc_info, str.startswith, _keeping(is_changed), _failing(is_changed)[1]
    library, catching = os.path.dirname(os.__file__) + os.sep, _catching(tree)
    tools = tuple(library + name for name in ("unittest", "doctest", "contextlib", "site-packages", "dist-packages"))
    broken: dict[str, Any] = {}
    entered: dict[str, list[Any]] = {}
    leaving: dict[str, Any] = {}
    by_manager: list[Any] = []
    reached: set[str] = set()
    skipped: set[str] = set()
    below = {str(one.lineno): {*_asserted(one.body)} for one in nodes(tree) if hasattr(one, "items")}

    def is_others(traceback: Any) -> bool:
        """Whether it was not caught by the script, nor by a test tool."""
        name = traceback.tb_frame.f_code.co_filename
        if name == script:
            return all(traceback.tb_lineno not in lines for lines in catching)
        return is_text(name, library) and not is_text(name, tools)

    def broke(_: Any, line: str) -> None:
        broken[line] = now()[1]

    def held(_: Any, line: str) -> None:
        broken.pop(line, None)
        skipped.discard(line)
        reached.add(line)

    def enters(manager: Any, line: str) -> None:
        entered.setdefault(line, []).append(manager)
        reached.difference_update(below[line.rstrip("!")])

    def raises(_: Any, line: str) -> None:
        leaving[line] = now()[1]
        if skipping() and "skip" not in source.lower():
            skipped.add(f"skip {line}")

    def left(_: Any, line: str) -> None:
        error, managers = leaving.pop(line, None), entered.pop(line, [])
        if error is not None and (line[-1:] == "!" or any(map(by_others, managers))):
            by_manager.append(error)
            skipped.update(below[line.rstrip("!")] - reached)

    def swallowed() -> bool:
        for error in broken.values():
            traceback = error.__traceback__
            if traceback is not None and (is_changed(traceback.tb_frame.f_code.co_filename) or is_others(traceback)):
                return True
            if any(one is error for one in by_manager):
                return True
        return bool(skipped)

    return {BROKE: broke, HELD: held, ENTERED: enters, RAISED: raises, LEFT: left}, swallowed


def questions(
    compare: Callable[..., Any],
    foreign: Callable[[Any], bool],
    of_changed: Callable[[str], bool],
    void: Callable[[str], None],
    failures: list[int],
    look: Callable[[], None],
) -> dict[str, Callable[[Any, Any], None]]:
    """What is done at each kind of check: `(value, more)`.

    `failures`: whose first number is counted up; `look`: compares tools with what they were.
    """
    shadowing, (failing, _), (due, _) = _shadowing(foreign), _failing(of_changed), rarely(_OFTEN, _DEAR)

    def look_now(_: Any, line: str) -> None:
        if due(line):
            look()

    def fail(_: Any, __: Any) -> None:
        failures[0] += failing()

    def received(_: Any, test: Any) -> None:
        if shadowing(test):
            void("replaced a method of a test")

    doing = {LOOK: look_now, FAILED: fail, RECEIVER: received}
    return {**doing, **_pairs(compare)}
