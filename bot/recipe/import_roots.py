"""The folders of a repository from which its Python packages are imported, by its manifests. Pure.

Sources: the user guides of setuptools (package-dir, packages.find), Poetry (packages), Hatch (packages, sources,
dev-mode-dirs), Flit (module), PDM (package-dir), maturin (python-source), uv (workspaces, module-root), pytest
(pythonpath).
"""

import configparser
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from bot.patch.formats import of_toml, read_ini
from bot.recipe.groups import strings, table_at
from bot.recipe.recipe import Read

_MANIFESTS = ("pyproject.toml", "setup.py", "setup.cfg")
_OF_PYTEST = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}
_USUAL = ("src", "lib")  # of the root, with or without a manifest
_TEST = re.compile(r"test_.*\.py|.*_test\.py")
_DEPTH = 4  # folders above a manifest
_MOST = 40
_FOREIGN = frozenset(
    (
        *(
            "node_modules",
            "vendor",
            "vendored",
            "third_party",
            "site-packages",
            "build",
            "dist",
            "fixtures",
            "testdata",
        ),
        *("example", "examples", "samples", "test", "tests", "testing", "docs", "doc", "templates", "scripts", "tools"),
        *("benchmark", "benchmarks", "demo", "demos"),
    )
)


def import_roots(files: Sequence[str], read: Read) -> tuple[str, ...]:
    """Folders without a slash at the end, the root of the repository (``""``) first; each has Python files in it.

    A folder of a monorepo in which a file is named as a module of the standard library is left out: it would be
    imported in its place.
    """
    python = [path for path in files if path.endswith((".py", ".pyi", ".so"))]
    folders = {""}
    for path in python:
        folders.update(str(above) for above in PurePosixPath(path).parents if str(above) != ".")
    found = dict.fromkeys(["", *_USUAL])
    for project in projects(files):
        told = [joined(project, name) for name in _told(project, frozenset(files), read)]
        if not told and project:
            source = joined(project, "src")
            told = [source if source in folders else project]
        found.update(dict.fromkeys(told))
    found.update(dict.fromkeys([*_of_pytest(files, read), *_beside_tests(python)]))
    inside: dict[str, set[str]] = {}
    for path in python:
        for above in PurePosixPath(path).parents:
            name = PurePosixPath(path).relative_to(above).parts[0]
            inside.setdefault("" if str(above) == "." else str(above), set()).add(name.removesuffix(".py"))
    kept = [
        root
        for root in found
        if root in folders and (root in ("", *_USUAL) or not (sys.stdlib_module_names - {"test"}) & inside[root])
    ]
    return tuple(kept[:_MOST])


def projects(files: Sequence[str]) -> list[str]:
    """Folders with a manifest, outer ones first."""
    found = set()
    for path in files:
        folder, _, name = path.rpartition("/")
        deep = folder.count("/") >= _DEPTH
        if name in _MANIFESTS and not deep and not _is_foreign(folder):
            found.add(folder)
    return sorted(found, key=lambda folder: (folder.count("/"), bool(folder), folder))


def _beside_tests(python: Sequence[str]) -> list[str]:
    """Folders that hold a package and tests of their own beside it, as parts without a manifest do."""
    tested, packaged, packages = set(), set(), set()
    for path in python:
        folder, _, name = path.rpartition("/")
        above, _, last = folder.rpartition("/")
        if name == "__init__.py":
            packages.add(folder)
            packaged.update([above] if last not in ("test", "tests") else [])
        if last in ("test", "tests") and _TEST.fullmatch(name):
            tested.add(above)
    return sorted(
        folder
        for folder in tested & packaged - packages - {""}
        if not _is_foreign(folder) and folder.count("/") < _DEPTH
    )


def _of_pytest(files: Sequence[str], read: Read) -> Iterator[str]:
    """The `pythonpath` of pytest's own files."""
    for path in files:
        folder, _, name = path.rpartition("/")
        section = _OF_PYTEST.get(name)
        if section and not _is_foreign(folder) and folder.count("/") < _DEPTH:
            for value in (_ini(read(path) or "").get(section, "pythonpath", fallback="") or "").split():
                yield joined(folder, value)


def _is_foreign(folder: str) -> bool:
    parts = folder.lower().split("/") if folder else []
    return bool(_FOREIGN.intersection(parts)) or any(part.startswith(".") for part in parts)


def _told(project: str, files: frozenset[str], read: Read) -> Iterator[str]:
    """The folders that the manifests of one project name, relative to it."""
    texts = {name: read(joined(project, name)) for name in _MANIFESTS if joined(project, name) in files}
    try:
        pyproject = of_toml((texts.get("pyproject.toml") or "").lstrip("\ufeff"))
    except ValueError:
        pyproject = {}
    yield from _of_pyproject(table_at(pyproject, "tool"), project, files)
    yield from _of_setup_cfg(texts.get("setup.cfg") or "")
    setup = texts.get("setup.py") or ""
    for found in re.findall(r"""package_dir\s*=\s*(?:dict\(|\{)\s*["']{2}\s*[:=]\s*["']([\w./-]+)["']""", setup):
        yield found
    for found in re.findall(r"""find_(?:namespace_)?packages\(\s*(?:where\s*=\s*)?["']([\w./-]+)["']""", setup):
        yield found


def _of_pyproject(tool: dict[str, Any], project: str, files: frozenset[str]) -> Iterator[str]:
    setuptools = table_at(tool, "setuptools")
    for name, folder in table_at(setuptools, "package-dir").items():
        yield from _above(name, folder)
    yield from strings(table_at(setuptools, "packages", "find").get("where"))
    poetry = table_at(tool, "poetry").get("packages")
    for one in poetry if isinstance(poetry, list) else []:
        if isinstance(one, dict) and isinstance(one.get("from"), str):
            yield one["from"]
    hatch = table_at(tool, "hatch", "build")
    for table in (hatch, *(table_at(hatch, "targets", kind) for kind in ("wheel", "sdist"))):
        for package in strings(table.get("packages")):
            yield str(PurePosixPath(package).parent)
        sources = table.get("sources")
        yield from [str(key) for key in sources] if isinstance(sources, dict) else strings(sources)
        yield from strings(table.get("dev-mode-dirs"))
    flit = table_at(tool, "flit", "module").get("name")
    if isinstance(flit, str) and any(
        path.startswith(joined(project, f"src/{flit.replace('.', '/')}")) for path in files
    ):
        yield "src"
    for table, key in (
        (table_at(tool, "pdm", "build"), "package-dir"),
        (table_at(tool, "maturin"), "python-source"),
        (table_at(tool, "uv", "build-backend"), "module-root"),
        (table_at(tool, "pytest", "ini_options"), "pythonpath"),
    ):
        value = table.get(key)
        yield from value.split() if isinstance(value, str) else strings(value)


def _of_setup_cfg(text: str) -> Iterator[str]:
    parser = _ini(text)
    for line in (parser.get("options", "package_dir", fallback="") or "").splitlines():
        name, divider, folder = line.partition("=")
        if divider:
            yield from _above(name.strip(), folder.strip())
    yield from (parser.get("options.packages.find", "where", fallback="") or "").split()


def _ini(text: str) -> configparser.ConfigParser:
    """What the text says; nothing where it can't be read."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        read_ini(parser, text)
    except ValueError:
        return configparser.ConfigParser()
    return parser


def _above(name: str, folder: object) -> Iterator[str]:
    """The root that a package's folder lies in: ``{"": "src"}`` and ``{"pkg": "src/pkg"}`` both say `src`."""
    parts = PurePosixPath(str(folder)).parts
    named = tuple(name.split(".")) if name else ()
    if parts[len(parts) - len(named) :] == named:
        yield str(PurePosixPath(*parts[: len(parts) - len(named)]))


def joined(folder: str, name: str) -> str:
    """The path below the folder; `.` is the folder itself. One that leads out of the repository is no folder of it."""
    parts: list[str] = folder.split("/") if folder else []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return "/"
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
