"""The versions in Python's lock files, as constraints for pip."""

import re
from typing import Any

from bot.patch.formats import of_json, of_toml
from bot.recipe.groups import normal

_ELSEWHERE = {"editable", "virtual", "directory", "path", "git", "url"}


def pinned(path: str, text: str) -> tuple[str, ...]:
    """`name==version` of every package of a uv.lock, poetry.lock, pdm.lock, pylock.toml or Pipfile.lock.

    Left out: packages of other places than an index, and those with several versions, of which markers choose one.
    () where the file can't be read.
    """
    try:
        packages = _of_pipenv(of_json(text)) if path.endswith("Pipfile.lock") else _of_toml(of_toml(text))
    except (ValueError, TypeError, AttributeError):
        return ()
    versions: dict[str, set[str]] = {}
    for name, version in packages:
        versions.setdefault(normal(name), set()).add(version)
    return tuple(f"{name}=={min(found)}" for name, found in sorted(versions.items()) if len(found) == 1)


def locked(text: str) -> tuple[str, ...]:
    """The packages of a pylock.toml (PEP 751) as requirements for pip, with their markers; of other places as of
    `pinned`. () where it can't be read."""
    found = []
    try:
        data = of_toml(text)
        for package in data.get("packages") or []:
            marker = package.get("marker")
            # Of extras and groups pip knows nothing: what is locked for them is installed.
            given = isinstance(marker, str) and not re.search(r"\b(extras|dependency_groups)\b|[^ -~]", marker)
            for name, version in _of_toml({"packages": [package]}):
                found.append(f"{name}=={version}; {marker}" if given else f"{name}=={version}")
    except (ValueError, TypeError, AttributeError):
        return ()
    return tuple(found)


def _of_toml(data: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for package in data.get("package") or data.get("packages") or []:
        source = package.get("source") or {}
        kind = source.get("type")  # Poetry's; uv names the place by a key
        elsewhere = _ELSEWHERE & set(source) if kind is None else kind != "legacy"
        if not elsewhere and not {"path", "git", "vcs", "url", "directory", "archive"} & set(package):
            name, version = package.get("name"), package.get("version")
            if isinstance(name, str) and isinstance(version, str) and re.fullmatch(r"[\w.!+-]+", version):
                found.append((name, version))
    return found


def _of_pipenv(data: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for section in ("default", "develop"):
        for name, package in (data.get(section) or {}).items():
            version = package.get("version", "")
            if isinstance(version, str) and version.startswith("=="):
                found.append((name, version[2:]))
    return found
