"""Examples of the documentation (`>>> f(1)` in docstrings) in the files that a candidate changes. Pure.

One that holds on the base commit, and that the candidate's documentation still has, must hold on the candidate: else
its code contradicts its documentation. Unlike in doctest's own runs, each example counts by itself, since the issue is
often about another one of the same docstring. One that fails on the base commit shows nothing.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bot.records import Documented, Ending, Execution, Test
from bot.retrieval.source_files import is_test_material
from bot.solver import doctests

FILES = 20  # changed files whose examples are run
_MARK = "EXAMPLES "
_IMPORTS = "import "  # begins what stands for the file as a whole
_LABEL = 300  # characters of an example, of what it should give, and of what it gave
_KEPT = 200  # failing examples that are told
_NAMED = 20  # of them that a report keeps of a candidate that contradicts them
_PROGRAMS = ("setup.py", "conftest.py", "manage.py", "__main__.py", "noxfile.py", "fabfile.py")  # not to be imported

_SCRIPT = """
import importlib
import json
import os
import sys
import zlib

sys.dont_write_bytecode = True
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
held, failed = set(), []


def imported(path):
    folder, name = os.path.split(os.path.abspath(path))
    parts = [os.path.splitext(name)[0]]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, last = os.path.split(folder)
        parts.insert(0, last)
    sys.path.insert(0, folder)
    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def digest(*texts):
    return "%08x" % zlib.crc32("\\0".join(texts).encode("utf-8", "replace"))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return docstrings(file.read())
    except FileNotFoundError:
        return {{}}
    except Exception:
        return None  # then it can't be imported either


def observe(path):
    docs = read(path)
    if docs == {{}}:
        return
    whole = {imports!r} + digest(path)
    try:
        module = imported(path)
    except BaseException as error:
        failed.append((whole, "import " + path, "", "%s: %s" % (type(error).__name__, error)))
        return
    held.add(whole)
    for name, text in (docs or {{}}).items():
        try:
            rows = examples(module, name, text, FLAGS)
        except ValueError:
            continue
        for example, passed, got in rows:
            key = digest(path, name, example.source, example.want)
            source = "%s: %s" % (path, " ".join(example.source.split()))
            if passed:
                held.add(key)
            else:
                failed.append((key, source, example.want.strip(), got.strip()))


stdout, sys.stdout = sys.stdout, io.StringIO()
for path in json.loads({paths!r}):
    observe(path)
sys.stdout = stdout
rows = [[text[:{label}] for text in row] for row in failed[:{kept}]]
print()
print({mark!r} + json.dumps({{"held": sorted(held - {{row[0] for row in failed}}), "failed": rows}}))
"""


@dataclass(frozen=True)
class Seen:
    """What the examples of some files came to on one tree."""

    held: frozenset[str]  # digests of file, name, example and what it should give
    failed: dict[str, tuple[str, str, str]]  # by digest: the example, what it should give, what it gave


def files_of(paths: Iterable[str]) -> tuple[str, ...]:
    """Which of the changed files may hold examples of the documentation."""
    return tuple(
        path
        for path in paths
        if path.endswith(".py") and PurePosixPath(path).name not in _PROGRAMS and not is_test_material(path)
    )[:FILES]


def script(files: Sequence[str]) -> Test:
    """Prints what the examples of these files come to on the tree that it runs in; read it with `seen`."""
    text = _SCRIPT.format(paths=json.dumps(files), label=_LABEL, kept=_KEPT, mark=_MARK, imports=_IMPORTS)
    return Test(path="documented_examples.py", text=Path(doctests.__file__).read_text() + text)


def seen(execution: Execution) -> Seen | None:
    """What the script printed; None where it did not come to its end. What a candidate forges can only spare itself."""
    _, mark, rest = execution.output.rpartition("\n" + _MARK)
    try:
        found = json.loads(rest.split("\n", 1)[0]) if mark else None
        held = frozenset(map(str, found["held"])) if found else None
        rows = {str(key): (str(one), str(want), str(got)) for key, one, want, got in found["failed"]} if found else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return None if held is None else Seen(held, rows)


def compared(
    candidate: int, base: Collection[Seen], runs: Sequence[Execution], files: Sequence[str]
) -> Documented | None:
    """How the examples that hold in each of the runs on the base commit (`base`) went on the candidate, in `runs`.

    None where none holds, or the sandbox could not tell. What fails in one run and holds in another is no regression.
    """
    held = frozenset.intersection(*(one.held for one in base))
    if not held or any(run.ending is Ending.UNAVAILABLE for run in runs):
        return None
    found = [seen(run) for run in runs]
    known = [one for one in found if one is not None]
    if not known:
        return Documented(candidate=candidate, broken=(f"examples in {', '.join(files)}: {runs[0].status}",))
    if len(known) < len(found):
        return None
    broken = frozenset.intersection(*(frozenset(one.failed) for one in known)) & held
    still = frozenset.union(*(one.held for one in known)) & held
    return Documented(
        candidate=candidate,
        held=sum(not key.startswith(_IMPORTS) for key in still),
        broken=tuple(in_words(*one) for key, one in known[0].failed.items() if key in broken)[:_NAMED],
    )


def in_words(example: str, want: str, got: str) -> str:
    """`a.py: f(1), documented as 2, gives 3`"""
    said = f"{example}, documented as {want}" if want else example
    return f"{said}, gives {got}" if got else said
