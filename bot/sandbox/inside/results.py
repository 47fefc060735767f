"""What each test of pytest or unittest came to, told to the sandbox from inside. Standard library only, Python 3.8+.

Executed by `runner.py` before anything of the tree is imported, never imported itself. What a runner prints proves
nothing: candidate code can print `FAILED` and `PASSED`, too. So each result is a line `KEY WORD TEST` on the report
descriptor, where WORD is `passed`, `failed` or `skipped`. The key is known to an audit hook alone (PEP 578), which
can't be removed and which nothing leads to but the ways that `runner.py` watches.

Code that shares a process with its judge can also change the judge. Such changes are told as lines `KEY mark TEXT`:
functions of the test tools and of the standard library that were replaced, hooks and finders of modules that were
added, files of tests that were rewritten while they ran, tests whose code is from elsewhere, results that were
reported through code that is no test tool's. Repositories do much of that themselves, so a mark counts only where
the base commit has none of its kind.
"""

from __future__ import annotations

import os
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.callables import entries

_RESULT, _LOOK, _SURVEY = "troop.result", "troop.look", "troop.survey"
_WORDS = frozenset(("passed", "failed", "skipped"))
_MOST_FILES = 20_000  # files of tests that are watched
_MOST_MARKS = 2_000
_CONFIGURED = ("conftest.py", "pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")
_TEST_FOLDERS = ("tests", "test", "testing", "__tests__", "spec")
_LOAD_BEARING = (
    *("runner", "reports", "python", "unittest", "outcomes", "main", "nodes", "skipping", "python_api", "raises"),
    *("fixtures", "assertion"),
)
_STEERING = (
    *("pytest_runtestloop", "pytest_runtest_protocol", "pytest_runtest_setup", "pytest_runtest_call"),
    *("pytest_pyfunc_call", "pytest_runtest_makereport", "pytest_runtest_logreport", "pytest_runtest_teardown"),
)

audit = sys.audit
_function = type(lambda: None)
_method = type((lambda self: None).__get__(0))


def _replaced(entries: Any) -> list[str]:
    return [dotted for space, name, value, dotted in entries if space.get(name) is not value]


def _file_of(value: Any) -> str:
    """Goes by types alone: what stands for another object, as Flask's `current_app`, may fail when it is asked."""
    kind = type(value)
    if kind is _method or kind is staticmethod or kind is classmethod:
        value = value.__func__
    return value.__code__.co_filename if type(value) is _function else ""


def _planted(tree: str) -> list[str]:
    """Attributes of modules outside the tree, and of their classes, that are functions of a file in the tree."""
    found = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if not isinstance(file, str) or file.startswith(tree) or getattr(module, "__name__", "") == "__main__":
            continue
        own = getattr(module, "__name__", "")
        for space, name, value, dotted in entries(module) if own else ():
            code = _file_of(value)
            if code.startswith(tree) and space.get(name) is value and getattr(value, "__module__", "") != own:
                found.append(dotted)
    return found


def _watched_files(tree: str) -> dict[str, int]:
    """Files of tests and of their configuration in the tree, with when each was changed (in the kernel's words)."""
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(tree):
        folders[:] = [f for f in folders if not f.startswith((".", "__pycache__")) and f not in ("node_modules",)]
        parts = folder[len(tree) :].split(os.sep)
        among = any(part in _TEST_FOLDERS for part in parts)
        for name in files:
            if among or name in _CONFIGURED or name.startswith("test_") or name.endswith("_test.py"):
                path = os.path.join(folder, name)
                try:
                    found[path] = os.lstat(path).st_ctime_ns
                except OSError:
                    continue
        if len(found) > _MOST_FILES:
            break
    return found


def _changed_files(watched: dict[str, int]) -> list[str]:
    found = []
    for path, before in watched.items():
        try:
            after = os.lstat(path).st_ctime_ns
        except OSError:
            after = 0
        if after != before:
            found.append(path)
    return found


def _hooks(manager: Any, tree: str) -> list[str]:
    """The functions behind the hooks of a plugin manager: those of the tree by name, all others as one number."""
    found: list[str] = []
    others: list[str] = []
    for name, caller in list(vars(manager.hook).items()):
        for implementation in getattr(caller, "get_hookimpls", list)():
            function = implementation.function
            place = f"{name}: {getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function))}"
            (found if _file_of(function).startswith(tree) or not _file_of(function) else others).append(place)
    executes = manager._inner_hookexec
    others.append(getattr(executes, "__qualname__", str(type(executes))))
    return [*found, f"hooks {zlib.crc32(' '.join(sorted(others)).encode()):08x}"]


def _finders() -> list[str]:
    found = []
    for finder in [*sys.meta_path, *sys.path_hooks]:
        named = finder if hasattr(finder, "__qualname__") else type(finder)
        found.append(f"finder {getattr(named, '__module__', '')}.{named.__qualname__} {_file_of(finder)}".rstrip())
    return found


def _item_marks(item: Any, tree: str) -> list[str]:
    """What is strange about a test of pytest that has just run."""
    inside = vars(item)
    marks = [f"{name} of a test" for name in ("runtest", "setup", "repr_failure") if name in inside]
    ran = inside.get("_obj")
    if ran is not None and hasattr(item, "originalname"):
        file = _file_of(ran)
        path = str(getattr(item, "path", None) or getattr(item, "fspath", ""))
        if file != path and (not file or file.startswith(tree)):
            marks.append(f"tests of {path[len(tree) :]} are run from {file[len(tree) :] or type(ran).__name__}")
    return marks


def _teller(sign: Callable[[bytes], int]) -> tuple[Callable[[str, str], None], Callable[[str], None]]:
    """What writes a signed line, and what writes a mark once."""
    encode, replace, length = str.encode, bytes.replace, len
    told: set[str] = set()

    def tell(word: str, text: str) -> None:
        line = replace(replace(encode(text, "utf-8", "backslashreplace"), b"\n", b"\\n"), b"\r", b"\\r")
        sign(encode(word) + b" " + line)

    def mark(text: str) -> None:
        if text not in told and length(told) < _MOST_MARKS:
            told.add(text)
            tell("mark", text)

    return tell, mark


def _provenance(
    main: FrameType, tree: str, trusted: tuple[str, ...], mark: Callable[[str], None]
) -> Callable[[FrameType | None], None]:
    """What marks a result that came through other code than the test tools'."""
    known: set[CodeType] = set()
    length, is_text = len, str.startswith

    def from_tools(frame: FrameType | None) -> None:
        while frame is not main:
            if frame is None:
                mark("a result of another thread, or after the end")
                return
            code = frame.f_code
            if code not in known:
                name = code.co_filename
                if is_text(name, trusted):
                    known.add(code)
                else:
                    mark(f"a result through {name[length(tree) :] if is_text(name, tree) else name}")
            frame = frame.f_back

    return from_tools


def _outcomes(tell: Callable[[str, str], None], look: Callable[[], None]) -> Callable[[str, str, str], None]:
    """What takes the phases of each test, and tells what the test came to."""
    states: dict[str, str] = {}

    def result(test: str, when: str, outcome: str) -> None:
        before = states.get(test, "")
        if when == "setup" and before != "failed":
            states[test] = before = ""
        if outcome == "failed":
            states[test] = "failed"
            if before != "failed":
                tell("failed", test)
        elif before != "failed" and (outcome == "skipped" or (outcome == "passed" and when == "call" and not before)):
            states[test] = outcome
        if when == "teardown":
            look()
            if states.get(test) in ("passed", "skipped"):
                tell(states.pop(test), test)

    return result


def _surveying(
    tree: str, mark: Callable[[str], None]
) -> tuple[Callable[[], None], Callable[[Any], None], Callable[[Any], None]]:
    """What looks at the test tools after each test, at a test that has just run, and at everything."""
    quick = [entry for name in _LOAD_BEARING for one in _loaded(f"_pytest.{name}") for entry in entries(one)]
    quick += [entry for name in ("unittest.case", "unittest.result") for one in _loaded(name) for entry in entries(one)]
    names = [name for name in list(sys.modules) if name != "__main__"]
    everything = [entry for name in names if sys.modules[name] is not None for entry in entries(sys.modules[name])]
    builtin = list(entries(sys.modules["builtins"]))
    files, length = _watched_files(tree), len
    managers: list[Any] = []
    steering: list[tuple[Any, str, list[int]]] = []

    def replaced(*entries: Any) -> None:
        for some in entries:
            for dotted in _replaced(some):
                mark(f"{dotted} replaced")

    def after() -> None:
        replaced(quick, builtin)

    def look(item: Any) -> None:
        replaced(quick)
        for caller, name, before in steering:
            if [id(one.function) for one in caller.get_hookimpls()] != before:
                mark(f"{name} implemented otherwise")
        for text in _item_marks(item, tree):
            mark(text)

    def survey(manager: Any) -> None:
        if manager is not None and not managers:
            managers.append(manager)
            for name in _STEERING:
                caller = getattr(manager.hook, name)
                steering.append((caller, name, [id(one.function) for one in caller.get_hookimpls()]))
        replaced(everything)
        rewritten = [f"{path[length(tree) :]} rewritten" for path in _changed_files(files)]
        hooks = [text for one in managers for text in _hooks(one, tree)]
        for text in [*(f"{name} is of the tree" for name in _planted(tree)), *_finders(), *rewritten, *hooks]:
            mark(text)

    return after, look, survey


def _place(sign: Callable[[bytes], int], tree: str, own: set[CodeType], trusted: tuple[str, ...]) -> None:
    """Set the hook. All that it needs is bound here, since the tests may change everything else."""
    getframe, getpid, owner = sys._getframe, os.getpid, os.getpid()
    tell, mark = _teller(sign)
    after, look, survey = _surveying(tree, mark)
    from_tools = _provenance(getframe(3), tree, trusted, mark)
    result = _outcomes(tell, after)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in (_RESULT, _LOOK, _SURVEY) or getpid() != owner:
            return
        frame = getframe(1)
        if frame.f_code not in own:
            mark(f"a result by {frame.f_code.co_filename}")
            return
        from_tools(frame)
        if event == _RESULT:
            result(*arguments)
        elif event == _LOOK:
            look(arguments[0])
        else:
            survey(arguments[0])

    sys.addaudithook(hook)


def _loaded(name: str) -> list[Any]:
    return [sys.modules[name]] if name in sys.modules else []


def _folder(module: Any) -> str:
    """Where the code of a package is; of a module alone its file."""
    return os.path.dirname(module.__file__) + os.sep if hasattr(module, "__path__") else str(module.__file__)


# -- pytest --------------------------------------------------------------------------------------------------------


class _Plugin:
    """What pytest calls. Methods only hand on: whoever finds the plugin finds nothing to change."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = "skipped" if getattr(report, "wasxfail", None) is not None and report.skipped else report.outcome
        audit(_RESULT, report.nodeid, report.when, outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.outcome == "failed":
            audit(_RESULT, report.nodeid, "collect", "failed")

    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        if call.when == "call":
            audit(_LOOK, item)
        yield

    def pytest_collection_finish(self, session: Any) -> None:
        audit(_SURVEY, session.config.pluginmanager)

    def pytest_sessionfinish(self, session: Any) -> Iterator[None]:
        yield
        audit(_SURVEY, session.config.pluginmanager)

    def pytest_cmdline_main(self, config: Any) -> Iterator[None]:
        if hasattr(config.option, "numprocesses"):  # of pytest-xdist: what another process says is not known to be so
            config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []
        yield


def pytest(sign: Callable[[bytes], int], tree: str) -> Callable[[list[str]], int]:
    """Prepare pytest; what to call with its arguments. Raises `ImportError` where it is not there."""
    import importlib

    import pytest as tool  # noqa: PT013 - this function has its name
    from _pytest import config

    for name in getattr(config, "default_plugins", ()):
        importlib.import_module(f"_pytest.{name}")
    import unittest
    import unittest.mock

    import pluggy

    wrapped = tool.hookimpl(hookwrapper=True, tryfirst=True)
    for method in (_Plugin.pytest_runtest_makereport, _Plugin.pytest_cmdline_main):
        wrapped(method)
    tool.hookimpl(hookwrapper=True)(_Plugin.pytest_sessionfinish)
    own = {method.__code__ for method in vars(_Plugin).values() if isinstance(method, _function)}
    here = sys._getframe().f_code.co_filename
    trusted = (_folder(sys.modules["_pytest"]), _folder(tool), _folder(pluggy), _folder(unittest), here)
    _place(sign, tree, own, (*trusted, here.replace("results", "runner")))
    plugin = _Plugin()
    sys.argv[0] = os.path.join(os.path.dirname(tool.__file__), "__main__.py")

    def call(arguments: list[str]) -> int:
        code = int(tool.main(arguments, plugins=[plugin]))
        sys.stdout.flush()
        return code

    return call


# -- unittest ------------------------------------------------------------------------------------------------------


def unittest(sign: Callable[[bytes], int], tree: str) -> None:
    """Prepare unittest, whose own `__main__` is run afterwards."""
    import runpy
    import unittest as tool
    import unittest.mock

    class Result(tool.runner.TextTestResult):
        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
            if err is not None:
                audit(_RESULT, str(test), "call", "failed")
            super().addSubTest(test, subtest, err)

        def stopTestRun(self) -> None:  # noqa: N802
            audit(_SURVEY, None)
            super().stopTestRun()

    def telling(name: str, when: str, outcome: str) -> Callable[..., None]:
        def method(self: Any, test: Any, *rest: Any) -> None:
            audit(_RESULT, str(test), when, outcome)
            getattr(super(Result, self), name)(test, *rest)

        return method

    phases = {"startTest": ("setup", "passed"), "addSuccess": ("call", "passed"), "stopTest": ("teardown", "passed")}
    phases.update((name, ("call", "failed")) for name in ("addError", "addFailure", "addUnexpectedSuccess"))
    phases.update((name, ("call", "skipped")) for name in ("addSkip", "addExpectedFailure"))
    for name, (when, outcome) in phases.items():
        setattr(Result, name, telling(name, when, outcome))
    setattr(tool.runner.TextTestRunner, "resultclass", Result)  # noqa: B010 - its type differs between versions
    own = {method.__code__ for method in vars(Result).values() if isinstance(method, _function)}
    here = sys._getframe().f_code.co_filename
    trusted = (_folder(tool), here, here.replace("results", "runner"), runpy.__file__, "<frozen runpy>")
    _place(sign, tree, own, trusted)
