"""A claim on one question of one checkout: a second `troop solve` is told, whatever state folder it has.

It is a lock on one byte of a file in the checkout's git folder, at a place that the question's name gives. The kernel
lifts it when the process ends, however it ends; the last to end removes the file.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from bot.errors import JournalBusy

NAME = "troop-runs"


@contextlib.contextmanager
def claimed(folder: Path | None, question: str) -> Iterator[None]:
    """Hold the question while the block runs. Raises `JournalBusy` where another process does.

    Without a folder, or in one that can't be written or locked, nobody is told.
    """
    lock = None if folder is None else _lock(folder / NAME, _place(question))
    try:
        yield
    finally:
        if lock is not None:
            _release(lock, folder / NAME if folder else Path())


def _place(question: str) -> int:
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:7], "big")


def _lock(path: Path, place: int) -> int | None:
    with contextlib.suppress(OSError):
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                if os.fstat(file).st_nlink:  # else it was removed before we had the lock
                    return file
            except (BlockingIOError, PermissionError) as error:
                os.close(file)
                raise JournalBusy(
                    "another `troop solve` works on this very question, with another state folder: wait for it, or "
                    "stop it (Ctrl-C)"
                ) from error
            except BaseException:
                os.close(file)
                raise
            os.close(file)
    return None


def _release(file: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the whole file: fails while others have a part of it
        path.unlink(missing_ok=True)
    os.close(file)
