"""Changes of manifests that no test reads: a description, a dependency, a linter's settings. Pure.

A manifest configures many programs, the test runner among them. Each kind has a list of parts that may change;
whatever else changes, or can't be read, is taken for the judge's. Dependencies may change since nothing is installed
for a candidate: its tests run with what the base commit has.
"""

import configparser
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from bot.patch.formats import of_json, of_toml, read_ini

Parsed = dict[str, Any]

_LINTERS = ("black", "ruff", "isort", "mypy", "pyright", "pylint", "flake8", "bandit", "codespell", "interrogate")
_RELEASES = ("towncrier", "commitizen", "bumpversion", "semantic_release")
_PROJECT = (
    *("version", "description", "readme", "license", "license-files", "authors", "maintainers", "keywords"),
    *("classifiers", "urls", "requires-python", "dependencies", "optional-dependencies", "scripts"),
)
_POETRY = (
    *("version", "description", "readme", "license", "authors", "maintainers", "keywords", "classifiers"),
    *("homepage", "repository", "documentation", "urls", "dependencies", "dev-dependencies", "group", "extras"),
)
_PYPROJECT = (
    "dependency-groups",
    *(f"project.{key}" for key in _PROJECT),
    *(f"tool.poetry.{key}" for key in _POETRY),
    *(f"tool.{name}" for name in (*_LINTERS, *_RELEASES)),
)
_CARGO = (
    *(f"package.{key}" for key in ("version", "description", "authors", "license", "keywords", "categories")),
    *(f"package.{key}" for key in ("repository", "homepage", "documentation", "readme", "rust-version")),
    *("dependencies", "dev-dependencies", "build-dependencies", "features", "workspace.dependencies"),
)
_PACKAGE_JSON = (
    *("version", "description", "keywords", "author", "contributors", "license", "homepage", "bugs", "repository"),
    *("funding", "private", "files", "engines", "publishConfig", "dependencies", "devDependencies"),
    *("peerDependencies", "peerDependenciesMeta", "optionalDependencies", "main", "module", "exports", "bin", "types"),
    *("typings", "prettier", "eslintConfig", "sideEffects"),
)
_COMPOSER = (
    *("version", "description", "keywords", "homepage", "license", "authors", "support", "funding", "time"),
    *("require", "require-dev", "suggest", "conflict", "replace", "provide"),
)
_INI_SECTIONS = re.compile(
    r"metadata|options\.extras_require|flake8|pycodestyle|pydocstyle|isort|mypy(-.*)?|pylint.*|bdist_wheel|sdist"
    r"|bumpversion.*|codespell|yapf|darglint"
)
_INI_OPTIONS = {"options": ("install_requires", "python_requires", "setup_requires", "tests_require", "zip_safe")}
_REQUIRE = re.compile(
    r"^require[ \t]*\([^)]*\)|^require[ \t]+\S+[ \t]+\S+[^\n]*|^(?:go|toolchain)[ \t]+\S+", re.MULTILINE
)


def is_manifest(path: str) -> bool:
    """Whether some changes of the file may be harmless."""
    return PurePosixPath(path).name in _KINDS


def harmless(path: str, before: str | None, after: str | None) -> bool:
    """Whether a manifest of the path was there, is there, and differs in nothing that tests read."""
    reduced = _KINDS.get(PurePosixPath(path).name)
    if reduced is None or before is None or after is None:
        return False
    try:
        return bool(reduced(before) == reduced(after))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False


def _without(parsed: object, keys: Iterable[str]) -> object:
    """The tables without what may change. Mutates them."""
    for key in keys:
        *tables, last = key.split(".")
        table = parsed
        for name in tables:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        if isinstance(table, dict):
            table.pop(last, None)
    return _pruned(parsed)


def _pruned(value: object) -> object:
    """Without tables that are empty: one that only had what may change counts as not there."""
    if not isinstance(value, dict):
        return value
    pruned = {key: _pruned(inner) for key, inner in value.items()}
    return {key: inner for key, inner in pruned.items() if inner != {}}


def _toml(keys: Iterable[str]) -> Callable[[str], object]:
    return lambda text: _without(of_toml(text), keys)


def _json(keys: Iterable[str]) -> Callable[[str], object]:
    def once(pairs: list[tuple[str, Any]]) -> Parsed:
        if len({key for key, _ in pairs}) < len(pairs):  # parsers differ in which one they take
            raise ValueError("a key is there twice")
        return dict(pairs)

    return lambda text: _without(of_json(text, object_pairs_hook=once), keys)


def _ini(text: str) -> object:
    parser = configparser.RawConfigParser(default_section="no section has this name")
    read_ini(parser, text)
    return {
        name: {key: value for key, value in parser.items(name) if key not in _INI_OPTIONS.get(name, ())}
        for name in parser.sections()
        if not _INI_SECTIONS.fullmatch(name)
    }


def _go_mod(text: str) -> object:
    without = re.sub(r"//[^\n]*", "", text)
    return _REQUIRE.sub("", without).split()


def _makefile(text: str) -> object:
    """Its lines without comments that stand alone; a line that a backslash goes on is no comment."""
    lines = text.split("\n")
    kept = [line.rstrip() for i, line in enumerate(lines) if not (line.startswith("#") and not _goes_on(lines, i))]
    return [line for line in kept if line]


def _goes_on(lines: list[str], i: int) -> bool:
    return lines[i].rstrip().endswith("\\") or (i > 0 and lines[i - 1].rstrip().endswith("\\"))


_KINDS: dict[str, Callable[[str], object]] = {
    "pyproject.toml": _toml(_PYPROJECT),
    "Cargo.toml": _toml(_CARGO),
    "package.json": _json(_PACKAGE_JSON),
    "composer.json": _json(_COMPOSER),
    "setup.cfg": _ini,
    "tox.ini": _ini,
    "go.mod": _go_mod,
    **dict.fromkeys(("Makefile", "makefile", "GNUmakefile"), _makefile),
}
