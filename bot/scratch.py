"""Temporary folders, of sandboxes and of git, and the removal of those whose process was killed."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

PREFIX = "troop-sandbox-"
_UNLOCKED = ("troop-git-", "troop-index-")
_LOCK = "lock"
_OLD = 86_400.0  # seconds; no run takes as long
_UNLOCKED_SECONDS = 600.0  # after which a folder without a lock is no one's: it is made, and goes last, within far less


class ScratchFolder:
    """A temporary folder that is locked as long as the process that made it lives."""

    def __init__(self) -> None:
        """Create it, and remove those of killed processes. Raises `OSError`."""
        sweep(Path(tempfile.gettempdir()))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock: int | None = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.fstat(self._lock).st_nlink:  # else another process removed it before we had the lock
                return
            os.close(self._lock)

    @classmethod
    async def fresh(cls) -> "ScratchFolder":
        """One without holding up the event loop. Cancelled, it leaves none behind. Raises `OSError`."""
        await asyncio.to_thread(sweep, Path(tempfile.gettempdir()))  # may find much; after that, all is quick
        return cls()

    def close(self) -> None:
        """Remove it. Safe to call twice, never raises."""
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A folder for as long as the block runs. Raises `OSError`."""
    scratch = await ScratchFolder.fresh()
    try:
        yield scratch.path
    finally:
        scratch.close()


def sweep(parent: Path, control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Remove folders below `parent` whose owner is gone, with their control groups; how many. Never raises."""
    swept = _sweep_unlocked(parent)
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid() or not _remove_left(folder):
                continue
            swept += 1
            for pattern in (f"{folder.name}-*", f"memory/{folder.name}-*", f"pids/{folder.name}-*"):
                for group in control_groups.glob(pattern):
                    with contextlib.suppress(OSError):
                        os.rmdir(group)
    return swept


def _remove_left(folder: Path) -> bool:
    """Remove a folder whose owner is gone; False where it lives. Raises `OSError`."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # the owner was killed as it made the folder, or as it removed it
        left = time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS
        if left:
            remove_tree(folder)
        return left
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the owner lives
        _remove(folder)
    finally:
        os.close(lock)
    return True


def _sweep_unlocked(parent: Path) -> int:
    """Remove what killed runs of earlier versions left: folders without a lock, known by their names and age."""
    swept = 0
    for name in _UNLOCKED:
        for folder in parent.glob(f"{name}*"):
            with contextlib.suppress(OSError):
                found = folder.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and time.time() - found.st_mtime > _OLD:
                    remove_tree(folder)
                    swept += 1
    return swept


def _remove(folder: Path) -> None:
    """As `remove_tree`; the lock goes last, so that what a killed removal leaves is found by the next start."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        for name in os.listdir(folder):
            if name != _LOCK:
                remove_tree(folder / name)
    remove_tree(folder)


def remove_tree(path: Path) -> None:
    """Remove a folder, even if a job changed its permissions, or made folders in each other beyond what Python walks
    through. Never follows links, never raises."""
    try:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)  # before `walk` lists the folder
        shutil.rmtree(path, ignore_errors=True)
    except RecursionError:
        for command in (("chmod", "-R", "u+rwx"), ("rm", "-rf")):
            with contextlib.suppress(OSError):
                subprocess.run([*command, "--", str(path)], check=False, capture_output=True)
