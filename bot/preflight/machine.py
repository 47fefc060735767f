"""This machine and the settings' own sense: git, the folder of checkouts, a list that names no repository."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator

from bot.preflight.finding import Finding
from bot.settings import Settings
from bot.store.disk import unwritable

_ROOM = 2_000_000_000  # bytes: what one checkout may take by default


async def machine(settings: Settings, *, works: bool) -> list[Finding]:
    """What is wrong, and git."""
    return await asyncio.to_thread(lambda: [*_look(settings, works)])


def _look(settings: Settings, works: bool) -> Iterator[Finding]:
    if works:
        yield _git()
        yield from _work_folder(settings)
    # Nothing would ever match, and so every delivery be ignored.
    odd = [pattern for pattern in settings.repositories if pattern.count("/") != 1 or pattern.strip("/") != pattern]
    if odd:
        hint = f"patterns are OWNER/NAME, e.g. {odd[0].strip('/').split('/')[0] or 'octo-org'}/*"
        detail = f"TROOP_REPOSITORIES has what matches no repository: {', '.join(odd)}"
        yield Finding.missing("repositories", detail, hint, fatal=True)


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding.missing("git", "not found", "install git, e.g. apt-get install git")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding.ok("git", version)


def _work_folder(settings: Settings) -> Iterator[Finding]:
    """Where it is not there yet, the nearest folder above it counts."""
    name, folder = "work folder", settings.work_dir.absolute()
    if os.path.exists(folder) and not os.path.isdir(folder):
        trouble = f"{folder} is not a folder"
    else:
        trouble = unwritable(folder / "run-1-1")
    if trouble:
        yield Finding.missing(name, trouble, "TROOP_WORK_DIR names it")
        return
    free = shutil.disk_usage(next(one for one in (folder, *folder.parents) if os.path.exists(one))).free
    if free < _ROOM:
        detail = f"the disk of {folder} has {free / 1e9:.1f} GB left, and a repository may take several"
        yield Finding.optional(name, detail, "free some, or set TROOP_WORK_DIR")
