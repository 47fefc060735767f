"""Several Python projects in one repository that depend on each other. Pure.

Source: uv's "Using workspaces". What has the name of one of them is that one, whatever an index has under its name.
"""

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from bot.patch.formats import of_toml
from bot.recipe.groups import normal, strings, table_at
from bot.recipe.import_roots import joined, projects
from bot.recipe.recipe import Read

_MANIFEST = "pyproject.toml"
_MOST = 20  # members


def own_names(files: Sequence[str], read: Read) -> frozenset[str]:
    """The names of the repository's own projects, as they are compared."""
    found = set()
    for folder in projects(files):
        data = _manifest(read, joined(folder, _MANIFEST))
        name = table_at(data, "project").get("name") or table_at(data, "tool", "poetry").get("name")
        if isinstance(name, str):
            found.add(normal(name))
    return frozenset(found)


def members(files: Sequence[str], read: Read) -> tuple[str, ...]:
    """The folders, each with a slash at its end, of a workspace's members and of what the root depends on by a path."""
    root = _manifest(read, _MANIFEST)
    workspace = table_at(root, "tool", "uv", "workspace")
    wanted, left_out = strings(workspace.get("members")), strings(workspace.get("exclude"))
    by_path = set(map(PurePosixPath, map(posixpath.normpath, _paths(root))))
    folders = [PurePosixPath(path).parent for path in files if path.endswith(f"/{_MANIFEST}")]
    return tuple(
        f"{folder}/"
        for folder in sorted(folders)
        if folder in by_path
        or (any(map(folder.match, filter(None, wanted))) and not any(map(folder.match, filter(None, left_out))))
    )[:_MOST]


def _paths(manifest: dict[str, Any]) -> Iterator[str]:
    poetry = table_at(manifest, "tool", "poetry")
    groups = table_at(poetry, "group")
    tables = [table_at(manifest, "tool", "uv", "sources"), table_at(poetry, "dependencies")]
    tables += [table_at(poetry, "dev-dependencies"), *(table_at(groups, name, "dependencies") for name in groups)]
    for table in tables:
        for value in table.values():
            if isinstance(value, dict) and isinstance(value.get("path"), str):
                yield value["path"]


def _manifest(read: Read, path: str) -> dict[str, Any]:
    try:
        return of_toml((read(path) or "").lstrip("\ufeff"))
    except ValueError:
        return {}
