"""What a build wrote and git ignores, and imports and tests need: for `troop solve` on a local checkout.

A version file that a build backend writes (`_version.py`), the metadata of an editable install, extension modules,
`node_modules`. No other ignored file is taken: people keep their secrets there.
"""

import asyncio
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from bot.errors import CheckoutError, GitFailed
from bot.git.command import git
from bot.git.users_config import trusted_folders

MAX_BYTES = 300_000_000  # of all of them
_VERSION = re.compile(r"_?version(?:_info)?\.py|_[a-z0-9]+_version\.py|__about__\.py|scm_version\.py")
_EXTENSION = (".so", ".pyd", ".dylib", ".node")
_NEVER = {".venv", "venv", ".tox", ".nox", ".git", "site-packages", "build", "dist"}


def is_built(path: str) -> bool:
    """Whether an ignored file is one that a build writes beside the source. Pure."""
    pure = PurePosixPath(path)
    if pure.parts[0] == "node_modules":
        return True
    if _NEVER.intersection(pure.parts):
        return False
    metadata = any(part.endswith(".egg-info") for part in pure.parts[:-1])
    return metadata or pure.suffix in _EXTENSION or _VERSION.fullmatch(pure.name) is not None


async def copy_built(source: Path, target: Path) -> tuple[tuple[str, ...], str]:
    """Copy the built files of the checkout `source` into the folder `target`; nothing there is overwritten.

    Returns the paths that were copied, and in words what was left out. Links are not followed; a link within
    `node_modules` that stays within is copied as a link.
    """
    try:
        trusted = await trusted_folders()
        listing = await git("ls-files", "-z", "--others", "--ignored", "--exclude-standard", cwd=source, config=trusted)
    except (GitFailed, CheckoutError):
        return (), ""
    names = (os.fsdecode(name) for name in listing.split(b"\0") if name)
    return await asyncio.to_thread(_copy, source, target, sorted(name for name in names if is_built(name)))


def _copy(source: Path, target: Path, names: list[str]) -> tuple[tuple[str, ...], str]:
    total = 0
    copied: list[str] = []
    root = os.path.realpath(source)
    for name in names:
        path = source / name
        real = os.path.realpath(path)
        if not real.startswith(root + os.sep) or os.path.lexists(target / name):
            continue
        if os.path.realpath(path.parent) != os.path.join(root, os.path.dirname(name)).rstrip("/"):
            continue  # behind a link
        if path.is_symlink():
            if os.path.isabs(os.readlink(path)):
                continue
        elif not path.is_file():
            continue
        else:
            total += path.stat().st_size
        if total > MAX_BYTES:
            return tuple(copied), f"ignored build products beyond {MAX_BYTES:,} bytes are left out, from {name} on"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / name, follow_symlinks=False)
        copied.append(name)
    return tuple(copied), ""


def remove_built(target: Path, copied: tuple[str, ...]) -> None:
    """Remove them again, with the folders that are empty then."""
    for name in copied:
        (target / name).unlink(missing_ok=True)
        folder = (target / name).parent
        while folder != target and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
