"""What a candidate may not do beside its judge, seen by an audit hook (PEP 578). Standard library only, Python 3.8+.

Executed by `runner.py`, never imported itself. Where code of a changed file takes a way that leads to the nonce (the
garbage collector, raw memory, `/proc/PID/mem`), steers the judge (trace functions, the code of functions), or looks at
it (the frames that called it, the script's file, `__main__`), a line `void EVENT` withdraws any proof. Code that knew
what it is compared with would need no other fault. Files that looked at frames, asked the collector, traced or
followed pointers before the change may go on doing so.
"""

from __future__ import annotations

import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.interpreters import interpreting

_COLLECTOR = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames")
_POINTERS = ("string_at", "wstring_at", "cdata", "cdata/buffer", "addressof", "call_function")
_NEW_INTERPRETER = "cpython.PyInterpreterState_New"  # in it there is no audit hook; also `interpreters.py`
_SENT = "cpython.remote_debugger_script"  # executed wherever this process is, by `sys.remote_exec`
_HOOK = "sys.addaudithook"  # it is handed what pytest compiles and executes
_WATCHED = frozenset((*_COLLECTOR, _NEW_INTERPRETER, _HOOK, *(f"ctypes.{name}" for name in _POINTERS)))
_INTO_OTHERS = frozenset((  # functions of libc that open this process to others, or lead into others
    *("prctl", "syscall", "ptrace", "process_vm_readv", "process_vm_writev"),
))  # fmt: skip
_STEERING = frozenset(("sys.settrace", "sys.setprofile", "sys.monitoring.register_callback"))  # can skip lines
_FRAMES = frozenset(("tb_frame", "gi_frame", "cr_frame", "ag_frame"))
_CODE = frozenset(("__code__", "gi_code", "cr_code", "ag_code"))
_OF_FUNCTIONS = frozenset(("__code__", "__defaults__", "__kwdefaults__"))  # what makes one another without a trace
_PUTTING = frozenset(("os.putenv", "os.unsetenv"))  # by itself it is seen by children alone, not by `os.environ`
_STARTING = frozenset(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"))
_OTHERS = (
    *("ctypes.dlsym", "sys._getframe", "object.__getattr__", "object.__setattr__", "open", "compile", "code.__new__"),
    *("import", _SENT),
)
_SHOWING = frozenset((  # functions of `warnings` and `traceback` that show a line of whatever file it is
    *("_showwarnmsg", "print_exc", "format_exc", "print_exception", "format_exception", "print_tb", "format_tb"),
    "extract_tb",
))  # fmt: skip
_HANDING = (  # files of the library with functions that give the frame, or what is found by it, to who asks
    *("inspect.py", "traceback.py", "asyncio/base_tasks.py", "asyncio/graph.py", "dis.py", "types.py"),
    *("string.py", "string/__init__.py", "bdb.py", "pdb.py"),
)
_SHAPES = frozenset((  # functions of `inspect` and `types` that tell no line of code
    *("_signature_from_function", "_signature_is_functionlike", "_has_code_flag", "coroutine"),
))  # fmt: skip
_function = types.FunctionType
_WITH_CODE = (_function, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
_library = os.path.dirname(os.__file__)


def _of_library(*names: str) -> tuple[str, ...]:
    return tuple(os.path.join(_library, *name.split("/")) for name in names)


def _allowances(untrusted: set[str]) -> tuple[Callable[[Any, str], bool], Callable[[FrameType], bool]]:
    """What may be done though it could forge: see each. All names are bound here, as in `watch`."""
    modules, doctest = sys, os.path.join(_library, "doctest.py")
    is_text, kind, function, length, lower = str.startswith, type, _function, len, str.lower
    tree, libraries = os.getcwd() + os.sep, (_library, "site-packages", "dist-packages")

    def restores(frame: FrameType) -> bool:
        """Whether it is doctest, which after each run sets the trace function that it found: here, none."""
        code = frame.f_code
        mine = code.co_filename == doctest and code.co_name == "run" and doctest not in untrusted
        return mine and frame.f_globals["sys"] is modules and frame.f_locals.get("save_trace", modules) is None

    def own(target: Any, attribute: str) -> bool:
        """Whether it is a function of the repository's own code, which the candidate might as well have edited.

        Decorators that compile what they wrap at its first call replace such functions' code. Not one of a test, nor
        one that was made of a string: those may be the test tools'.
        """
        if kind(target) is not function:
            return False
        name = target.__code__.co_filename
        if attribute != "__code__":  # copies of functions get their defaults, and tuples with names as well
            return not any(one in name for one in libraries)
        return is_text(name, tree) and "test" not in lower(name[length(tree) :])

    return own, restores


def _plain(value: Any) -> Any:
    """Paths and arguments as they are, without objects: what those are asked runs code of the candidate."""
    kind = type(value)
    if kind in (str, bytes, int):
        return value
    if kind in (list, tuple):
        return [_plain(one) for one in value]
    try:
        found = value.__fspath__()
    except Exception:
        return None
    return found if type(found) in (str, bytes) else None


def _looking(untrusted: set[str], excused: frozenset[str]) -> Callable[[FrameType | None], bool]:
    """Whether whoever is handed a frame, or what is found by one, is a changed file.

    `excused`: those that did so before.
    """
    handing = frozenset(_of_library(*_HANDING))
    logging = os.path.join(_library, "logging", "__init__.py")
    (inspect, kinds), shapes, showing = _of_library("inspect.py", "types.py"), _SHAPES, _SHOWING
    (tracebacks,) = _of_library("traceback.py")

    def looking(frame: FrameType | None) -> bool:
        name, called = "", ""
        if frame is not None and frame.f_code.co_filename in (inspect, kinds) and frame.f_code.co_name in shapes:
            return False
        while frame is not None:
            before, name = name, frame.f_code.co_filename
            if name in untrusted:
                return name not in excused and not (before == tracebacks and called in showing)
            if before == logging or not (name in handing or name == logging or name[:1] == "<"):
                return False
            called, frame = frame.f_code.co_name, frame.f_back
        return False

    return looking


def _reading(script: str, source: bytes) -> tuple[Callable[[Any], bool], Callable[[Any], bool]]:
    """Whether a path leads to the script, and whether the arguments of a new process name it; never where it reads
    itself."""
    stat, base, text, folder = os.stat, os.path.basename(script), str, os.path.dirname(script)
    for call in (b"pytest.main([__file__", b"pytest.main(["):
        source = b"".join(part if n == 0 else part.partition(b")")[2] for n, part in enumerate(source.split(call)))
    if not script or b"__file__" in source or b"sys.argv" in source:
        return (lambda path: False), (lambda arguments: False)
    found = stat(script)
    mine = (found.st_dev, found.st_ino)

    def is_script(path: Any) -> bool:
        try:
            found = stat(path)
        except (OSError, ValueError, TypeError):
            return text(path)[-len(base) :] == base  # relative to a folder that is not told
        return (found.st_dev, found.st_ino) == mine

    def names_script(arguments: Any) -> bool:
        said = text(arguments)
        return script in said or folder in said or base in said

    return is_script, names_script


def _showing(untrusted: set[str], excused: frozenset[str], main: FrameType) -> Callable[[FrameType | None], bool]:
    """Whether the script's file is opened for a changed file. Raises `OSError` where that is to show one of its lines
    with a warning or a traceback, which is shown without it: the whole file would be in `linecache` from then on."""
    showing, functions, hidden = _of_library("warnings.py", "traceback.py", "_py_warnings.py"), _SHOWING, OSError
    logging, is_text = os.path.join(_library, "logging"), str.startswith

    def shown(frame: FrameType | None) -> bool:
        below: FrameType | None = None
        while frame is not None and frame is not main:
            if frame.f_code.co_filename in untrusted:
                if frame.f_code.co_filename in excused or below is None:
                    return frame.f_code.co_filename not in excused
                last = below.f_code
                if is_text(last.co_filename, logging) or (last.co_filename in showing and last.co_name in functions):
                    raise hidden
                return True
            below, frame = frame, frame.f_back
        return False

    return shown


def _to_memory() -> Callable[[Any, int], bool]:
    readlink = os.readlink

    def leads_to_memory(path: Any, links: int) -> bool:
        """Whether the path, or what it is a link to, is called like `/proc/PID/mem`."""
        if path.__class__ is bytes:
            path = path.decode("latin-1")
        if path.__class__ is not str or not links:
            return False
        if path[-4:] == "/mem" or path == "mem":
            return True
        try:
            return leads_to_memory(readlink(path), links - 1)
        except (OSError, ValueError):
            return False

    return leads_to_memory


def _stacks(untrusted: set[str], main: FrameType) -> tuple[Callable[..., bool], Callable[..., bool]]:
    """Whether a changed file, or code without a file, is among the callers; whether a changed file is. Not where it
    only imports a module, which does it by itself, nor files that are excused."""
    is_text = str.startswith

    def imported(frame: FrameType) -> bool:
        code, before = frame.f_code, frame.f_back
        by_import = before is not None and before.f_code.co_filename == "<frozen importlib._bootstrap>"
        return (
            by_import
            and code.co_name == "<module>"
            and code.co_filename not in untrusted
            and code.co_filename[:1] != "<"
        )

    def suspicious(frame: FrameType | None, excused: frozenset[str] = frozenset()) -> bool:
        while frame is not None:
            if frame is main or imported(frame):
                return False
            name = frame.f_code.co_filename
            if (name in untrusted and name not in excused) or (is_text(name, "<") and not is_text(name, "<frozen ")):
                return True
            frame = frame.f_back
        return True  # another thread: whoever started it

    def named(frame: FrameType | None, excused: frozenset[str] = frozenset()) -> bool:
        while frame is not None and frame is not main:
            if frame.f_code.co_filename in untrusted and frame.f_code.co_filename not in excused:
                return True
            if imported(frame):
                return False
            frame = frame.f_back
        return False

    return suspicious, named


def _of_threads(untrusted: set[str], tracing: frozenset[str]) -> Callable[[FrameType], bool]:
    """Whether it is a thread that begins, and traces itself by a function of a changed file: it has no frame below."""
    threading, get, kind = os.path.join(_library, "threading.py"), getattr, type

    def of_threads(frame: FrameType) -> bool:
        hooks = [frame.f_globals.get(name) for name in ("_trace_hook", "_profile_hook")]
        codes = [get(one, "__code__", get(kind(one).__call__, "__code__", None)) for one in hooks if one is not None]
        files = {get(code, "co_filename", "") for code in codes}  # none where it is C that calls another one
        return frame.f_code.co_filename == threading and not (files - tracing).isdisjoint({*untrusted, ""})

    return of_threads


def _unnamed(script: str) -> Callable[[str, FrameType], bool]:
    """Whether the script, the library or we do what none of these calls by its name: then it is a method of a
    candidate's value, `__del__ = staticmethod(partial(sys.settrace, look))`, and has no frame of its own."""
    is_text, places = str.startswith, (os.path.dirname(_unnamed.__code__.co_filename), _library)

    def unnamed(event: str, caller: FrameType) -> bool:
        name, word = caller.f_code.co_filename, event[event.rfind(".") + 1 :]
        if "-packages" in name or not (name == script or is_text(name, places)):
            return False
        return not any(word in one or "rofil" in one for one in (*caller.f_code.co_names, name))

    return unnamed


def _of_file() -> Callable[[Any, str], bool]:
    """Whether that is the text of a file of that name, which is as it was when the script began: a candidate that
    imports an unchanged module has its text compiled, too."""
    stat, read, started = os.stat, open, __import__("time").time_ns()

    def of_file(source: Any, name: str) -> bool:
        if source.__class__ is not bytes:
            return False
        try:
            with read(name, "rb") as file:
                return stat(name).st_ctime_ns < started and file.read() == source
        except (OSError, ValueError):
            return False

    return of_file


def _hook(
    judge: Callable[[str, tuple[Any, ...], FrameType], bool], sign: Callable[[bytes], int], events: frozenset[str]
) -> Callable[[str, tuple[Any, ...]], None]:
    getframe, ident, plain = sys._getframe, __import__("_thread").get_ident, _plain
    starting = _STARTING
    attributes = {"object.__getattr__": _FRAMES | _CODE, "object.__setattr__": _OF_FUNCTIONS}
    judging: set[int] = set()  # threads

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in events or (event[:9] == "object.__" and arguments[1] not in attributes[event]):
            return
        if event == "open" or event in starting:
            arguments = tuple(plain(arguments[:2]))
        me = ident()
        if me in judging:  # what we do ourselves
            return
        judging.add(me)
        try:
            if judge(event, arguments, getframe(1)):
                sign(b"void " + event.encode())
        finally:
            judging.discard(me)

    return hook


def watch(
    sign: Callable[[bytes], int], changed: set[str], before: dict[str, frozenset[str]], script: str, source: bytes
) -> tuple[Callable[[FrameType], bool], Callable[[], None]]:
    """Withdraw the proof where a changed file, or code that it made, forges, steers or looks; what tells whether a
    frame is of such a file, and the last look. `before`: files that did so before they were changed, by the marks that
    `runner.py` reads.

    All names are bound here: the script may change this module, `os` and `builtins`.
    """
    untrusted, watched, steering, main = changed, _WATCHED, _STEERING, sys._getframe(2)
    excused, tracing = before["f"], before["t"]
    of_before: dict[str, frozenset[str]] = {"gc": before["c"], "ctypes": before["p"]}
    putting = _PUTTING
    frames, starting, functions, running, kind, get = _FRAMES, _STARTING, _INTO_OTHERS, _WITH_CODE, type, getattr
    leads_to_memory, shown = _to_memory(), _showing(untrusted, excused, main)
    own, restores = _allowances(untrusted)
    looking = _looking(untrusted, excused)
    suspicious, named = _stacks(untrusted, main)
    is_script, names_script = _reading(script, source)
    of_file, of_threads, unnamed = _of_file(), _of_threads(untrusted, tracing), _unnamed(script)
    sent, hooking, (note, last) = _SENT, {*_STEERING, _HOOK}, interpreting(sign, source)

    def judge(event: str, arguments: tuple[Any, ...], caller: FrameType) -> bool:
        """Whether what the caller does costs the proof."""
        if event == sent or (event in hooking and unnamed(event, caller)):
            return True
        if event == "import":
            note(arguments[0])
            return False
        if event == "sys._getframe" or (event == "object.__getattr__" and arguments[1] in frames):
            return looking(caller)
        if event == "object.__getattr__":  # the code of one of the script's functions, generators or coroutines
            target, name = arguments
            return kind(target) in running and looking(caller) and get(target, name).co_filename == script
        if event == "ctypes.dlsym":
            return arguments[1] in functions and suspicious(caller, of_before["ctypes"])
        if event in watched:
            return suspicious(caller, of_before.get(event.partition(".")[0], frozenset()))
        if event in steering:  # threads of a coverage tool trace themselves
            return (named(caller, tracing) or of_threads(caller)) and not (event == "sys.settrace" and restores(caller))
        if event == "object.__setattr__":
            return named(caller) and not own(arguments[0], arguments[1])
        if event == "open":
            path = arguments[0]
            if leads_to_memory(path, 8) and suspicious(caller):
                return True
            return is_script(path) and shown(caller)
        if event in starting:
            return names_script(arguments) and named(caller)
        if event in putting:
            return caller.f_code.co_filename in untrusted
        name = arguments[1]  # a file's name that the code itself chose is none to go by
        if name.__class__ is str and name not in untrusted and suspicious(caller) and not of_file(arguments[0], name):
            untrusted.add(name)
        return False

    sys.addaudithook(_hook(judge, sign, frozenset((*watched, *steering, *starting, *putting, *_OTHERS))))
    return _looking(untrusted, excused | before["m"]), last


def stand_in(real: Any, looks: Callable[[FrameType], bool], sign: Callable[[bytes], int]) -> Any:
    """A module in the place of the script's own, which tells of changed files that look at the script's data, or set
    any of it. Classes and functions are no data: who pickles an object looks for its class."""
    getframe, void = sys._getframe, b"void __main__"
    get, put, remove, module = getattr, setattr, delattr, type(sys)

    class Script(module):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            value = get(real, name)
            is_data = not (name[:2] == "__" or callable(value) or isinstance(value, module))
            if (is_data or name == "__dict__") and looks(getframe(1)):
                sign(void)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            if looks(getframe(1)):
                sign(void)
            put(real, name, value)

        def __delattr__(self, name: str) -> None:
            if looks(getframe(1)):
                sign(void)
            remove(real, name)

        def __dir__(self) -> list[str]:
            return list(real.__dict__)

    return Script("__main__")
