"""Whether the tools that a test script judges by are still what they were. Standard library only, Python 3.8+.

Executed by `runner.py` before anything of the tree is imported, never imported itself. A candidate can replace
`unittest.TestCase.assertEqual`, `pytest.raises`, `math.isclose` or `builtins.isinstance` when it is imported, so that
every test passes. So what the script imports from elsewhere is imported first and noted, function by function and class
by class, and compared before and within each of the script's assertions and calls, and at its end: a patch that undoes
itself is there when it is used. Libraries replace functions of the standard library, too, and test scripts do so with
mocks: a replacement from a file that the candidate did not change is theirs, and so is one that a changed file made
before.

A value that agrees with everything costs the proof, too (`agreeing.py`), and so does a test of the script that failed
before the script ended well, whatever was done to the counts of the tools.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.agreeing import agreeing
    from bot.sandbox.inside.callables import by_kind, entries, plugins_of_pytest, settings
    from bot.sandbox.inside.checked import (
        CALLED,
        COMPARED,
        EXITING,
        HELPERS,
        MEANT,
        OF_TREE,
        ONLY_AST,
        OTHERS,
        SUSPENDED,
        checked,
        told,
        with_constant,
    )
    from bot.sandbox.inside.expecting import expecting
    from bot.sandbox.inside.forks import forking
    from bot.sandbox.inside.handed import beginning, handed, must_assert
    from bot.sandbox.inside.helping import helpers, helping
    from bot.sandbox.inside.leaving import exits_of, leaving
    from bot.sandbox.inside.meant import meant_to_fail, suspended, wildcards
    from bot.sandbox.inside.methods import methods
    from bot.sandbox.inside.questions import asking_alone, chained, questions, swallowing
    from bot.sandbox.inside.surroundings import constants, making_tasks, names_of, surroundings_of, uses_mocks

_TOOLS = ("unittest", "_pytest", "pytest", "doctest")  # nobody but pytest's plugins replaces what is in these
_OF_FILES = frozenset(("os", "posixpath", "genericpath", "io"))  # by which modules that use `os` look at files
_OFTEN = ("unittest.case", "_pytest.raises", "_pytest.python_api", "_pytest.outcomes")
_RECORDED = frozenset((  # what shows warnings and failures, and decides nothing
    *(f"warnings.{name}" for name in ("showwarning", "_showwarnmsg", "_showwarnmsg_impl")),
    *("logging._loggerClass", "logging._logRecordFactory"),
    *("threading.excepthook", "sys.excepthook", "sys.unraisablehook", "sys.displayhook"),
))  # fmt: skip
_FAKES_TIME = ("freez", "frozen", "travel", "clock", "fake", "time_machine")  # in names that the script has of the tree
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")

# The tree may have a copy of another package that is installed, too.
_OUTSIDE = {*getattr(sys, "stdlib_module_names", ("json", "math", "re", "unittest")), "pytest", "numpy", "hypothesis"}

_function = type(lambda: None)


def _imported(node: Any) -> Iterator[str]:
    """Modules that the script names, wherever it imports them."""
    if type(node).__name__ == "Import":
        for alias in node.names:
            yield alias.name
    elif type(node).__name__ == "ImportFrom":
        if node.module and not node.level:
            yield node.module
    else:
        for block in _BLOCKS:
            for inner in getattr(node, block, ()):
                yield from _imported(inner)


def _file_of(value: Any) -> str:
    """The file that a function, a class or an object is from; "" where that can't be told."""
    for name in ("__func__", "fget", "func"):  # of methods, properties and partial functions
        inner = getattr(value, name, None)
        if not isinstance(value, (type, _function)) and isinstance(inner, _function):
            value = inner
    if isinstance(value, _function):
        return value.__code__.co_filename
    kind = value if isinstance(value, type) else type(value)
    for inner in vars(kind).values():
        if isinstance(inner, _function):
            return inner.__code__.co_filename  # where it says that it is from may be a lie
    module = sys.modules.get(kind.__module__)
    of_mock = getattr(module, "NonCallableMock", None) in kind.__mro__  # each mock has a class of its own
    is_its_own = of_mock or getattr(module, kind.__name__, None) is kind
    return (getattr(module, "__file__", None) if is_its_own else None) or ""


def _import_now(tree: Any, provided: Callable[[str], bool]) -> set[str]:
    """Import what the script imports and no candidate can have written; the names."""
    named = {"builtins"}
    for name in dict.fromkeys(_imported(tree)):
        top = name.partition(".")[0]
        if top in _OUTSIDE and not provided(top):
            try:
                __import__(name)
            except BaseException:  # noqa: S112 - the script gets the same, in its own place
                continue
            named |= {name, top}
    return named


def _noted(named: set[str]) -> tuple[list[Any], list[Any]]:
    """What is looked at again and again, and all that is looked at in the end."""
    often, all_of_them = [], []
    packages = {name: vars(sys.modules[name]) for name in named if name.partition(".")[0] not in (*_TOOLS, "numpy")}
    places = [(name, getattr(one, "__module__", "")) for name in packages for one in packages[name].values()]
    parts = {*named, *(place for name, place in places if str(place).startswith(f"{name}."))}  # as `pathlib._local`
    often_named = {*parts, *_OFTEN}
    if any(name == "os" or hasattr(sys.modules.get(name), "os") for name in parts):
        often_named |= _OF_FILES
    for name, module in list(sys.modules.items()):
        if name == "__main__" or not (hasattr(module, "__dict__") and hasattr(module, "__name__")):
            continue
        found = [(sys.modules, name, module, f"module {name}"), *entries(module)]
        found += settings(module) if name.partition(".")[0] in _TOOLS else []
        all_of_them += found
        if name in often_named:
            often += found
    return often, all_of_them


def _among(changed: set[str]) -> Callable[[str], bool]:
    """Whether a file of that name, as code has it, is changed, or none: such code anybody can have made."""
    real, is_text = os.path.realpath, str.startswith
    known: dict[str, bool] = {}

    def of_changed(name: str) -> bool:
        if name not in known:
            without = not name or (is_text(name, "<") and not is_text(name, "<frozen "))
            known[name] = without or real(name) in changed
        return known[name] or name in changed  # or it was compiled under that name since

    return of_changed


def _judges(
    of_changed: Callable[[str], bool],
    script: str,
    uses_mocks: bool,
    fakes_time: bool,
    plugins: tuple[str, ...],
    set_before: frozenset[str],
) -> tuple[Callable[[Any], bool], Callable[[dict[str, Any], str, str, Any], bool]]:
    """Whether a value is from a changed file, or from none; whether what a namespace has in a place was tampered with,
    where it had another value before.

    All names are bound here: what is judged may change this module.
    """
    file_of, is_text, tools, recorded, module = _file_of, str.startswith, _TOOLS, _RECORDED, type(sys)
    library, is_function, function = os.path.dirname(os.__file__) + os.sep, isinstance, _function

    def foreign(value: Any) -> bool:
        return of_changed(file_of(value))

    def is_mock(value: Any) -> bool:
        return is_text(getattr(type(value), "__module__", ""), "unittest.mock")

    def of_script(cell: Any) -> bool:
        """Whether it is what a decorator, as `contextmanager`, was given."""
        return is_function(cell.cell_contents, function) and cell.cell_contents.__code__.co_filename == script

    def tampered(space: Any, name: str, dotted: str, before: Any) -> bool:
        value = space.get(name)
        if dotted in ("module sys", "module builtins") or is_text(dotted, "constant "):
            return True
        if dotted.partition(".")[0] in tools:
            return value is None or foreign(value) or not is_text(file_of(value), plugins)
        if dotted in recorded or (fakes_time and is_text(dotted, ("time.", "datetime."))):
            return False
        if value is None or is_mock(value) or (uses_mocks and is_mock(getattr(value, "mock", None))):
            return not uses_mocks
        if is_text(dotted, "module "):
            return type(value) is not module or of_changed(getattr(value, "__file__", None) or "<frozen ")
        place = file_of(value)
        if is_text(place, library) and "-packages" not in place and not of_changed(place):
            made = uses_mocks and is_function(value, function) and any(map(of_script, value.__closure__ or ()))
            return place != file_of(before) and not made  # as in `math.isclose = fractions.Fraction`
        return of_changed(place) and ".".join(dotted.split(".")[-2:]) not in set_before

    return foreign, tampered


def _tell_pytest(
    source: bytes, script: str, parsed: Callable[[], Any], complete: Callable[[Any], Any]
) -> Callable[[], bool]:
    """Have pytest, where the script gives itself to it, run the script as it was, with checks; whether it did so, need
    not, or can't be told."""
    others = b"pytest.main" not in source or b"__file__" not in source or b"assert=plain" in source
    rewrite: Any = sys.modules.get("_pytest.assertion.rewrite")
    if rewrite is None or not hasattr(rewrite, "_read_pyc"):
        return lambda: True
    rewrite_asserts, read_pyc, build = rewrite.rewrite_asserts, rewrite._read_pyc, compile
    done: list[bool] = []

    def rewritten(mod: Any, source: bytes, module_path: str | None = None, config: Any = None) -> None:
        if module_path == script:
            mod.body = told(parsed().body)
        rewrite_asserts(mod, source, module_path, config)
        if module_path == script:
            mod.body = checked(mod.body)

    def compiled(tree: Any, name: Any, *rest: Any, **others: Any) -> Any:
        code = build(tree, name, *rest, **others)
        if str(name) != script:
            return code
        done.append(True)
        return complete(code)

    note = sys.modules["_pytest.runner"]._update_current_test_var  # in the environment, with what is expected

    def noted(item: Any, when: str | None) -> None:
        note(types.SimpleNamespace(nodeid=item.nodeid.partition("[")[0]), when)

    setattr(sys.modules["_pytest.runner"], note.__name__, noted)
    rewrite.rewrite_asserts, rewrite.compile = rewritten, compiled
    rewrite._read_pyc = lambda source, *rest: None if str(source) == script else read_pyc(source, *rest)
    return lambda: others or bool(done)


def _decorated(node: Any) -> list[str]:
    """Of a class: its methods that are what a decorator makes of them."""
    return [one.name for one in node.body if getattr(one, "decorator_list", ())]


def _looking(
    tree: Any,
    script: str,
    main: dict[str, Any],
    foreign: Callable[[Any], bool],
    tampered: Callable[[dict[str, Any], str, str, Any], bool],
    surroundings: tuple[Callable[[], str], ...],
    void: Callable[[str], None],
) -> Callable[[list[Any]], None]:
    """What compares groups of tools with what they were, and the script's functions and surroundings as well."""
    kinds = ("FunctionDef", "AsyncFunctionDef", "ClassDef")
    again = {getattr(target, "id", "") for node in tree.body for target in getattr(node, "targets", ())}
    defined = [node for node in tree.body if type(node).__name__ in kinds and node.name not in again]
    plain = [node for node in defined if not node.decorator_list]
    own = [node.name for node in plain]
    classes = [(node.name, _decorated(node)) for node in plain if type(node).__name__ == "ClassDef"]
    seen: list[Any] = [None] * len(own)  # at the last look
    get, function, of_each, some, differs = dict.get, _function, map, itertools.compress, operator.is_not

    def look(groups: list[Any]) -> None:
        for ask, spaces, names, values, entries in groups:
            for space, name, before, dotted in some(entries, of_each(differs, of_each(ask, spaces, names), values)):
                if tampered(space, name, dotted, before):
                    void(f"replaced {dotted}")
        for tell in surroundings:
            other = tell()
            if other:
                void(f"replaced {other}")
        now = [get(main, name) for name in own]
        parts = [*some(now, of_each(differs, now, seen))]
        seen[:] = now
        for name, decorated in classes:
            value = get(main, name)
            if value.__class__ is type:
                parts += [part for attribute, part in list(vars(value).items()) if attribute not in decorated]
        for part in parts:
            if part.__class__ is function and part.__code__.co_filename != script and foreign(part):
                void("replaced a function of the script")

    return look


def _checking(
    forked: Callable[[str], None], *doing: dict[str, Callable[[Any, Any], Any]]
) -> Callable[[int, Any, str, Any], Any]:
    """What each check calls; it gives the value back, or the answer of what it compares."""
    getpid, owner, answering = os.getpid, os.getpid(), (COMPARED, CALLED)
    table: dict[str, list[Callable[[Any, Any], Any]]] = {}
    for each in doing:
        for what, act in each.items():
            table.setdefault(what, []).append(act)

    def check(_: int, value: Any, what: str, more: Any) -> Any:
        if getpid() != owner:
            forked(what)
        answer = value
        for act in table[what]:
            answer = act(value, more)
        return answer if what in answering else value

    return check


def _parsing(
    source: bytes, script: str, provided: Callable[[str], bool], expected: dict[str, tuple[str, str]]
) -> Callable[[], Any]:
    """What parses the script anew; what must run is put into `expected`."""

    def parsed() -> Any:
        tree = compile(source, script, "exec", ONLY_AST, dont_inherit=True)
        of_tree, others = names_of(tree, provided)
        OF_TREE.update(of_tree)
        OTHERS.update(others)
        HELPERS.update(helpers(tree))
        MEANT.update(meant_to_fail(tree))
        SUSPENDED.update(suspended(tree))
        EXITING.update(exits_of(tree))
        expected.update(handed(tree, source))
        return tree

    return parsed


def _voiding(sign: Callable[[bytes], int]) -> Callable[[str], None]:
    """What withdraws the proof: once is enough, and a report that nobody reads meanwhile is never full."""
    said: list[str] = []

    def void(why: str) -> None:
        if not said:
            said.append(why)
            sign(b"void " + why.encode("utf-8", "replace").replace(b"\n", b" "))

    return void


def guarded(
    source: bytes,
    script: str,
    main: dict[str, Any],
    sign: Callable[[bytes], int],
    by_candidate: tuple[set[str], frozenset[str]],
    provided: Callable[[str], bool],
) -> tuple[Any, Callable[[object, SystemExit | None], None]] | None:
    """The program with checks in it, for the namespace, and the last check, of an exit code; None for no program.

    `by_candidate`: the changed files, and the attributes that these set before. `provided`: whether the tree has a
    module of that name.
    """
    expected: dict[str, tuple[str, str]] = {}
    parsed, void = _parsing(source, script, provided, expected), _voiding(sign)
    try:
        tree = parsed()
    except (SyntaxError, ValueError):
        return None
    named = _import_now(tree, provided)
    plugins = plugins_of_pytest() if "pytest" in named else ()
    fakes_time = any(word in name.lower() for name in OF_TREE for word in _FAKES_TIME)
    of_changed = _among(by_candidate[0])
    foreign, tampered = _judges(of_changed, script, uses_mocks(source), fakes_time, plugins, by_candidate[1])
    tasks = making_tasks(foreign) if "asyncio" in named else lambda: ""
    surroundings = (surroundings_of(tree, named, main, source), helping(tree, script, main), tasks)
    often: list[Any] = []
    failures = [0]
    text = source.decode("utf-8", "replace")
    compare, ask = agreeing(text, wildcards(tree, main), foreign, void)
    doing = questions(compare, foreign, of_changed, void, failures, lambda: look(often))
    noting, swallowed = swallowing(tree, text, script, of_changed)
    begun, missing = beginning(expected, must_assert(tree, source))
    left, ended_itself = leaving(script)
    asking = {**asking_alone(ask), **expecting(text, foreign, void), **methods(text, foreign, ask, void)}
    asking[COMPARED] = chained(compare, text, void)
    check = _checking(forking(script, of_changed), doing, noting, begun, left, asking)

    def last(code: object, ended: SystemExit | None) -> None:
        look(by_kind(everything))
        if code != 0:
            return
        if ended is not None and not ended_itself(ended):
            void("the script did not end itself")
        if failures[0]:
            void("a test failed")
        if swallowed():
            void("a failure was swallowed")
        if missing():
            void(f"{missing()} never ran")
        if not given():
            void("pytest ran something else")

    complete = functools.partial(with_constant, check=types.MethodType(check, 0))
    look = _looking(tree, script, main, foreign, tampered, surroundings, void)
    given = _tell_pytest(source, script, parsed, complete)
    quick, everything = _noted(named)
    often[:] = by_kind([*quick, *([] if uses_mocks(source) else constants(tree, named, source, of_changed))])
    tree.body = checked(told(tree.body))
    return complete(compile(tree, script, "exec", dont_inherit=True)), last
