"""Several Python projects in one repository that depend on each other. Pure.

Source: uv's "Using workspaces". What has the name of one of them is that one, whatever an index has under its name.
"""

from collections.abc import Sequence
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
    """The folders of a workspace's members, each with a slash at its end."""
    workspace = table_at(_manifest(read, _MANIFEST), "tool", "uv", "workspace")
    wanted, left_out = strings(workspace.get("members")), strings(workspace.get("exclude"))
    folders = [PurePosixPath(path).parent for path in files if path.endswith(f"/{_MANIFEST}")]
    return tuple(
        f"{folder}/"
        for folder in sorted(folders)
        if any(map(folder.match, filter(None, wanted))) and not any(map(folder.match, filter(None, left_out)))
    )[:_MOST]


def _manifest(read: Read, path: str) -> dict[str, Any]:
    try:
        return of_toml((read(path) or "").lstrip("\ufeff"))
    except ValueError:
        return {}
