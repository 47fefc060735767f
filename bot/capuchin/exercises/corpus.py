"""The corpus: short functions of the standard library and of pinned packages, without those of the benchmarks."""

import ast
import dataclasses
import hashlib
import json
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).with_name("packages.txt")

# Packages in which the demo and the acceptance check plant bugs, and packages close to them. Training on their code, or
# on files with copies of it, would teach the model the fixes.
EXCLUDED = frozenset(
    {
        "toolz",
        "cytoolz",
        "more-itertools",
        "boltons",
        "humanize",
        "inflection",
        "python-slugify",
        "sortedcontainers",
        "funcy",
        "pydash",
        "iteration-utilities",
        "text-unidecode",
        "unidecode",
        "pytimeparse",
        "wrapt",
        "inflect",
    }
)

SKIPPED_FOLDERS = frozenset(
    {
        "test",
        "tests",
        "idlelib",
        "site-packages",
        "lib2to3",
        "__pycache__",
        "ensurepip",
        "turtledemo",
        "locale",
        "locales",
    }
    | {"migrations", "_vendor", "vendored", "pydecimal", "unicode_data", "conf"}
    | {name.replace("-", "_") for name in EXCLUDED}
)
MAX_LINES, MAX_CHARACTERS = 38, 1500  # of code
MAX_WHOLE = 80, 3200  # lines and characters with the docstring


@dataclasses.dataclass(frozen=True)
class Function:
    """One function, dedented. `doc` is the half-open range of its docstring's lines, empty if it has none."""

    name: str
    source: str
    doc: tuple[int, int]
    group: str  # package and file, by which functions are held out
    method: bool = False

    @property
    def held_out(self) -> bool:
        """Whether the function is for evaluation only: a twentieth of the files, by hash of the file's name."""
        return hashlib.sha256(self.group.encode()).digest()[0] % 20 == 0

    @property
    def bare(self) -> str:
        """The source without its docstring."""
        lines = self.source.split("\n")
        return "\n".join(lines[: self.doc[0]] + lines[self.doc[1] :])


def refuse_excluded(names: list[str]) -> None:
    """Raise `ValueError` if one of the packages is used in the benchmarks."""
    bad = sorted({name.lower().replace("_", "-") for name in names} & EXCLUDED)
    if bad:
        raise ValueError(
            f"packages kept for judging are in the corpus: {', '.join(bad)}; take them out of packages.txt"
        )


def pins() -> list[str]:
    """The requirement lines of `packages.txt`. Raises `ValueError` if one is excluded."""
    lines = [line.split("#")[0].strip() for line in PACKAGES.read_text().splitlines()]
    lines = [line for line in lines if line]
    refuse_excluded([line.split("==")[0] for line in lines])
    return lines


def download(folder: Path) -> None:
    """Fetch the pinned wheels that are missing in `folder`. Nothing is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    for pin in pins():
        name, version = pin.split("==")
        if not list(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
            argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*argv, "-d", str(folder), pin], check=True)


def _skipped(parts: tuple[str, ...]) -> bool:
    return bool(SKIPPED_FOLDERS & {part.removesuffix(".py") for part in parts}) or parts[-1].startswith("test_")


def sources(wheels: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every Python file to train on, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not _skipped(parts):
            yield "/".join(("python", *parts)), path.read_text(encoding="utf-8", errors="replace")
    for pin in pins():
        name, version = pin.split("==")
        for wheel in sorted(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for member in sorted(archive.namelist()):
                    if member.endswith(".py") and not _skipped(tuple(member.split("/"))):
                        yield member, archive.read(member).decode("utf-8", errors="replace")


def functions_of(group: str, text: str) -> Iterator[Function]:
    """The usable functions and methods of one file; none if it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.split("\n")
    for parent in ast.walk(tree):
        for node in getattr(parent, "body", []) if isinstance(parent, ast.Module | ast.ClassDef) else []:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
                continue
            source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno])).rstrip()
            count = source.count("\n") + 1
            if not 3 <= count <= MAX_WHOLE[0] or len(source) > MAX_WHOLE[1] or "\t" in source or "\x0c" in source:
                continue
            if not source.startswith("def ") or max(map(len, source.split("\n"))) > 100:
                continue
            doc = (0, 0)
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                if len(node.body) == 1:
                    continue
                doc = (first.lineno - node.lineno, (first.end_lineno or first.lineno) - node.lineno + 1)
            if not 3 <= count - (doc[1] - doc[0]) <= MAX_LINES:
                continue
            function = Function(node.name, source, doc, group, isinstance(parent, ast.ClassDef))
            if len(function.bare) <= MAX_CHARACTERS:
                yield function


def harvest(wheels: Path) -> list[Function]:
    """All functions, without duplicate bodies, in a fixed order."""
    seen: set[str] = set()
    found = []
    for group, text in sources(wheels):
        for function in functions_of(group, text):
            body = function.bare
            if body not in seen:
                seen.add(body)
                found.append(function)
    return found


def save(records: Sequence[Any], path: Path) -> None:
    """Write instances of a dataclass as JSON lines."""
    path.write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records))


def load(path: Path) -> list[Function]:
    """Read what `save` wrote."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [Function(**{**record, "doc": tuple(record["doc"])}) for record in records]
