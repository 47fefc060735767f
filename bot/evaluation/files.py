"""Names of an evaluation's files, and what is said where they can't be written."""

import contextlib
import errno
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


def name_of(task: str) -> str:
    """A file's name for a task's id, whatever that is; ids that differ have names that differ."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}", task):
        return task
    readable = re.sub(r"[^A-Za-z0-9_+-]+", "_", task)[:60].lstrip("-") or "_"
    return f"{readable}.{hashlib.sha256(task.encode()).hexdigest()[:16]}"
