"""Names of an evaluation's files, and what is said where they can't be read or written."""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bot.errors import EvaluationError
from bot.records import Record

_Kept = TypeVar("_Kept", bound=Record)

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


def read_kept(path: Path, kind: type[_Kept]) -> _Kept:
    """The record that an evaluation wrote. Raises `EvaluationError` where there is none, or something else."""
    try:
        return kind.model_validate_json(path.read_text())
    except FileNotFoundError:
        folder = path.parent
        raise EvaluationError(
            f"there is no {path.name} in {folder}: `troop eval run ... --out {folder}` makes it"
        ) from None
    except ValidationError as error:
        raise EvaluationError(f"{path} is not one of `troop eval`: {error.errors()[0]['msg']}") from None


def name_of(task: str) -> str:
    """A file's name for a task's id, whatever that is; ids that differ have names that differ."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}", task):
        return task
    readable = re.sub(r"[^A-Za-z0-9_+-]+", "_", task)[:60].lstrip("-") or "_"
    return f"{readable}.{hashlib.sha256(task.encode()).hexdigest()[:16]}"
