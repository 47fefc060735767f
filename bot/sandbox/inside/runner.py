"""Runs a Python script or module as `__main__` and proves that it reached its end. Standard library only, Python 3.8+.

    python3 runner.py REPORT_FD CHANGED_FILE PYTHONPATH SCRIPT             (key and nonce come on standard input)
    python3 runner.py REPORT_FD CHANGED_FILE PYTHONPATH -m MODULE ARG...   (or a file of the tree's that runs unittest)

Started by a sandbox, never imported. Candidate code shares this process, so an exit code of 0 proves nothing:
`os._exit(0)`, `sys.exit(0)` in a changed file or an exit hook would fake it. The proof is a line `NONCE CODE COUNT` on
the report descriptor, written when the script is over and before any exit hook runs. The nonce is read, and its pipe
emptied, before the script starts. From then on it is on the evaluation stack of this module's frame alone, as two
numbers that make it up: in no variable, environment, argument list or file, and nowhere in memory letter by letter.

All other lines are `KEY NUMBER TEXT`, signed with a key that is hidden alike and numbered from 0; COUNT is how many
there are. So none can be left out, by a descriptor that leads elsewhere for a while or a pipe that is full. Each line
begins with a line break: whatever the candidate writes before it is a line of its own.

An audit hook, which cannot be removed, watches the ways that lead to the nonce from within: see `watch.py`. So does a
wrong guess withdraw the proof. Code that knows how the two numbers lie in memory, and reads it by means that no hook
sees, can still forge a proof: nothing that shares a process can be kept from that.

A script's proof is withdrawn as well where a candidate replaced what it judges by: see `guard.py`.
"""

from __future__ import annotations

import gc
import os
import sys
from itertools import count

TYPE_CHECKING = False  # importing `typing` would cost each script some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any

_WORD = 32  # hexadecimal digits of the key by which `results.py` signs, and of the nonce that follows
_GUARD = (
    *("callables", "meant", "nearby", "rarely", "agreeing", "checked", "handed", "leaving", "expecting"),
    *("questions", "methods", "forks", "surroundings", "helping", "guard"),
)
_MARKS = "fctpm"
_DIGITS = b"0123456789abcdef"
_traceback_of = BaseException.__dict__["__traceback__"].__get__  # a class of exceptions may have another
_low_byte = int.__and__  # of what is no number, though it may say so, it raises `TypeError`
_code = [0]  # what the script ended with


def _out_of_reach() -> None:
    """Have the kernel keep other processes of this user, the candidate's own among them, from our memory."""
    try:
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(prctl, (4, 0, 0, 0, 0))  # PR_SET_DUMPABLE
        del sys.modules["_ctypes"]
    except (ImportError, AttributeError, OSError):  # it was built without, or is no CPython, or this is no Linux
        pass


def _read_all(descriptor: int) -> bytes:
    parts: list[bytes] = []
    while True:
        part = os.read(descriptor, 4096)
        if not part:
            break
        parts.append(part)
    try:  # noqa: SIM105 - contextlib would take each script some milliseconds
        os.ftruncate(descriptor, 0)  # another process may hold the file open
    except OSError:  # a pipe, which is empty by now
        pass
    return b"".join(parts).strip()


def _scrambled(descriptor: int) -> list[int]:
    """Two numbers that make up a word of the input by exclusive or. No object ever holds its letters."""
    letters = bytearray(_WORD)
    os.readv(descriptor, [letters])
    number = 0
    for place, letter in enumerate(letters):
        number = number << 4 | _DIGITS.index(letter)
        letters[place] = 0
    pad = int.from_bytes(os.urandom(_WORD // 2), "big")
    return [number ^ pad, pad]


def _signing(report: int, key: list[int]) -> Callable[[bytes], int]:
    """What writes a numbered line that begins with the key, and leaves no copy of it behind; how many it has written.

    All names are bound here. A fork that has something to tell is none of the script's: it ends the script.
    """
    write, digits, last, letters_of, one, pad = os.write, _DIGITS, _WORD, bytearray, *key
    getpid, kill, owner, number = os.getpid, os.kill, os.getpid(), count().__next__

    def sign(rest: bytes) -> int:
        if getpid() != owner:
            kill(owner, 9)
            return 0
        mine = number()
        line = letters_of(last + 1) + b" %d " % mine + rest + b"\n"
        line[0] = 10
        place, left = last, one ^ pad
        while place:
            line[place] = digits[left & 15]
            left >>= 4
            place -= 1
        write(report, line)
        line[1 : last + 1] = digits + digits
        return mine + 1

    return sign


def _cut_short(traceback: TracebackType | None, main: dict[str, object], changed: set[str]) -> bool:
    """Whether a `SystemExit(0)` came through code of the candidate: a changed file, or code without a file."""
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals is not main:
            name = frame.f_code.co_filename
            if name.startswith("<") and not name.startswith("<frozen "):
                return True
            if os.path.realpath(name) in changed:
                return True
        traceback = traceback.tb_next
    return False


def _exit_code(error: SystemExit) -> int:
    """As the interpreter has it; what is neither a number nor None is shown."""
    if error.code is None:
        return 0
    try:
        return _low_byte(error.code, 0xFF)  # type: ignore[arg-type]
    except TypeError:
        print(error.code, file=sys.stderr)
        return 1


def _below(error: BaseException) -> TracebackType | None:
    """The traceback without our own frame."""
    traceback: TracebackType | None = _traceback_of(error)
    return traceback.tb_next if traceback else None


def _ended(owner: int, code: int | str) -> bytes:
    """The code as the proof has it. A fork that outlives its parent proves nothing: it ends here."""
    if code.__class__ is int:  # no builtin is asked: the script may have replaced them
        _code[0] = code
    if os.getpid() != owner:
        sys.exit(_code[0])
    return b"%d" % code if code.__class__ is int else b"cut"


def _provided(path: list[str], name: str) -> bool:
    """Whether the tree itself has a module of that name, or a folder that could be one."""
    return any(os.path.exists(os.path.join(entry, place)) for entry in path for place in (name, f"{name}.py"))


def _code_of(place: str) -> Any:
    """Of a file of ours: as the sandbox has compiled it, where it did so with this version of Python."""
    try:
        from _frozen_importlib_external import SourcelessFileLoader  # is there already; `importlib` takes a while

        return SourcelessFileLoader("", f"{place}c").get_code("")
    except (ImportError, OSError):
        with open(place, "rb") as file:
            return compile(file.read(), place, "exec", dont_inherit=True)


def _beside(*files: str) -> dict[str, Any]:
    """What other files of ours define, each of which is handed what those before it do."""
    names: dict[str, Any] = {}
    for name in files:
        names = {**names, "__name__": name, "__builtins__": __builtins__}
        exec(_code_of(__file__.replace("runner", name)), names)  # noqa: S102 - ours
    return names


def _doctest() -> Callable[[], int]:
    """What runs doctest as its `__main__` does, in a copy that no import and no `__main__` leads to."""
    import importlib.util

    spec: Any = importlib.util.find_spec("doctest")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    test: Callable[[], int] = module._test
    return lambda: int(test())


def _judged(sign: Callable[[bytes], int], path: list[str], arguments: tuple[str, ...]) -> Callable[[], int] | None:
    """What runs pytest or unittest, and tells the result of each test, or doctest; None where the module's own
    `__main__` must.

    Nothing of the tree may have been imported before.
    """
    tool = "unittest" if _is_file(arguments[0]) or arguments[:2] == ("django", "test") else arguments[0]
    if tool == "doctest" and not _provided([os.getcwd(), *path], tool):
        return _doctest()
    if tool not in ("pytest", "unittest") or _provided([os.getcwd(), *path], tool) or _provided(path, f"_{tool}"):
        return None
    names = _beside("callables", "results")
    tree = os.path.realpath(os.getcwd()) + os.sep
    if tool == "unittest":
        names["unittest"](sign, tree)
        return None
    try:
        run: Callable[[list[str]], int] = names["pytest"](sign, tree)
    except ImportError:
        return None
    return lambda: run(list(arguments[1:]))


def _is_file(module: str) -> bool:
    return module.endswith(".py")


def _as_main(module: str) -> Callable[[], int]:
    """What runs the module, or the file, as the interpreter does."""
    import runpy

    def run() -> int:
        if _is_file(module):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy._run_module_as_main(module)  # type: ignore[attr-defined] # what `-m` itself calls
        return 0

    return run


def _end_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _changed(place: str) -> tuple[set[str], dict[str, frozenset[str]]]:
    """The changed files, and those of them that did before what costs the proof, by the marks after a tab: `f` looked
    at frames, `c` asked the garbage collector, `t` traced, `p` followed pointers, `m` took modules by their names.
    Under `set` the names, after another tab, of attributes that any of them set before."""
    real = os.path.realpath
    with open(place, "rb") as file:
        lines = [os.fsdecode(line) for line in file.read().splitlines() if line]
    split = [(line + "\t\t").split("\t")[:3] for line in lines]
    of = {mark: frozenset(name for name, marks, _ in split if mark in marks) for mark in _MARKS}
    named = {name for name, _, _ in split}
    before = {mark: names.union(map(real, names)) for mark, names in of.items()}
    before["set"] = frozenset(name for _, _, names in split for name in names.split())
    return named | set(map(real, named)), before


def _frameless(place: str) -> tuple[set[str], dict[str, frozenset[str]]]:
    """As `_changed`; from now on no signal handler that one of these files sets gets a frame."""
    changed, before = _changed(place)
    if changed and "signal" not in sys.modules:  # else somebody has it already
        _beside("frameless")["frameless"](changed)
    return changed, before


def _execute(
    report: int, sign: Callable[[bytes], int], changed_file: str, path: str, script: str, *arguments: str
) -> int | str:
    """Run the script, or `-m` with its module, as `__main__`; its exit code, or `cut`."""
    os.set_inheritable(report, False)
    sign(b"begin")
    _end_input()
    os.environ["PYTHONPATH"] = path  # for the processes that the script starts
    run: Callable[[], int] | None = None
    guard: Any = None
    changed, before = _frameless(changed_file)
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = __builtins__
    if script == "-m":
        sys.argv[:] = list(arguments)
        first = os.path.dirname(os.path.realpath(arguments[0])) if _is_file(arguments[0]) else os.getcwd()
        sys.path[:1] = []
        # All that this imports is before the tree is where modules are looked for.
        run = _judged(sign, [entry for entry in path.split(os.pathsep) if entry], arguments) or _as_main(arguments[0])
        sys.path[:0] = [""]
    else:
        main.__file__ = script
        with open(script, "rb") as file:
            source: Any = file.read()
        sys.argv[:] = [script]
        first = os.path.dirname(script)
        sys.path[:1] = []
        entries = [os.getcwd(), first, *[entry for entry in path.split(os.pathsep) if entry]]
        if changed:
            guarded = _beside(*_GUARD)["guarded"]
            by = (changed, before["set"])
            gc.disable()  # or it would look at each node of a long script's tree again and again
            guard = guarded(source, script, main.__dict__, sign, by, lambda name: _provided(entries, name))
            gc.enable()
        sys.path[:0] = [""]
    sys.path[:1] = [first, *[entry for entry in path.split(os.pathsep) if entry]]
    keep = sys.modules["__main__"]  # noqa: F841 - this module must outlive its place in `sys.modules`
    sys.modules["__main__"] = main
    if changed:
        files = _beside("interpreters", "watch")
        looks, watched = files["watch"](sign, changed, before, *(("", b"") if script == "-m" else (script, source)))
        if script != "-m" and b"sys.modules[__name__]" not in source:  # a script may hand over its own module
            sys.modules["__main__"] = files["stand_in"](main, looks, sign)
    del sign  # this frame can be looked at while the tests run
    if guard is not None:
        source, last = guard

    try:
        program = None if script == "-m" else source if guard else compile(source, script, "exec", dont_inherit=True)
    except BaseException as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        return 1
    code, ended = _ending_of(run, program, main.__dict__, changed)
    if changed:
        watched()
    if guard is not None:
        last(code, ended)
    return code


def _ending_of(
    run: Callable[[], int] | None, program: CodeType | None, main: dict[str, Any], changed: set[str]
) -> tuple[int | str, SystemExit | None]:
    """The exit code of the program, or of what runs the module; or `cut`. And what it ended with, if it raised that.

    A fork does not come to an end: by how it ends, whoever made it would learn what the script makes of an answer.
    """
    code: int | str = 0
    ended: SystemExit | None = None
    getpid, kill, owner = os.getpid, os.kill, os.getpid()
    try:
        if run is not None:
            code = run()
        elif program is not None:
            exec(program, main)  # noqa: S102 - that is what this file is for
    except SystemExit as error:
        if getpid() != owner:
            kill(getpid(), 9)
        code, ended = _exit_code(error), error
        if code == 0 and _cut_short(_below(error), main, changed):
            code = "cut"
    except BaseException as error:
        if getpid() != owner:
            kill(getpid(), 9)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        # Without the frame of this function, it looks as it would without us.
        traceback = _below(error)
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
    if getpid() != owner:
        kill(getpid(), 9)
    return code, ended


if __name__ == "__main__":
    _out_of_reach()
    _signs = [_signing(int(sys.argv[1]), _scrambled(0))] * 2
    _one, _pad = ([number] for number in _scrambled(0))
    _read_all(0)
    # Read before the script runs, written after it; in between on the stack of this line, in nothing that the garbage
    # collector tracks.
    os.write(
        int(sys.argv[1]),
        (lambda one, pad, sign, code: b"\n%032x %b %d\n" % (one ^ pad, code, sign(b"end")))(
            _one.pop(),
            _pad.pop(),
            _signs.pop(),
            _ended(os.getpid(), _execute(int(sys.argv[1]), _signs.pop(), *sys.argv[2:])),
        ),
    )
    sys.exit(_code[0])
