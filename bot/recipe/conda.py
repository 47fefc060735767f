"""Pixi's manifests, and what Troop does not install: packages of conda's channels. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from bot.recipe.groups import for_tests, table_at
from bot.repo_config import FILE_NAME

_FILES = ("environment.yml", "environment.yaml", "conda-lock.yml")
_NOT_PACKAGES = frozenset(("python", "pip"))
_NAMED = 8


def pixi_tables(manifest: dict[str, Any], name: str) -> Iterator[tuple[str, object]]:
    """The entries of a table such as `pypi-dependencies`, of the project and of its features for tests."""
    features = table_at(manifest, "feature")
    for table in (manifest, *(table_at(features, feature) for feature in for_tests(features))):
        yield from table_at(table, name).items()


def of_channels(manifest: dict[str, Any], path: str) -> str:
    """Says which packages pixi would take from conda's channels; "" where there are none."""
    names = [name for name, _ in pixi_tables(manifest, "dependencies") if name not in _NOT_PACKAGES]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{path} takes {', '.join(names[:_NAMED])}{more} from conda's channels: {_HELP}"


def environments(files: Sequence[str]) -> tuple[str, ...]:
    """What is said where only conda's files tell what a repository needs."""
    return tuple(f"{name} lists packages of conda's channels: {_HELP}" for name in _FILES if name in files)


_HELP = f"they are not installed here; an image that has them, or `setup`, can be named in {FILE_NAME}"
