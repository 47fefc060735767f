"""Files of an evaluation: whole or as they were, also where the process is killed or the disk is full."""

import contextlib
import errno
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bot.errors import EvaluationError

_OF_THE_DISK = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO)
)


@contextlib.contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Where the folder can't be written, `EvaluationError` says so in place of `OSError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise EvaluationError(
            f"{error.filename or folder} can't be written ({os.strerror(error.errno)}): samples that are there are "
            "kept; make room or give another --out, and run the same command again"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Put a new file in the place of the old one. Raises `OSError`, and then leaves that as it was."""
    _sweep(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what processes left that were killed while they wrote this file."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = old.name.rpartition(".")[2]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            old.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):  # another's file, or another user's process
            continue


def name_of(task: str) -> str:
    """A file's name for a task's id, whatever that is; ids that differ have names that differ."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}", task):
        return task
    readable = re.sub(r"[^A-Za-z0-9_+-]+", "_", task)[:60].lstrip("-") or "_"
    return f"{readable}.{hashlib.sha256(task.encode()).hexdigest()[:16]}"
