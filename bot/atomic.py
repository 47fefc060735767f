"""Files that are whole or as they were, also where the process is killed, or the disk is full."""

import contextlib
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OWN, SHARED = 0o600, 0o666  # modes; what the umask says is taken away


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = OWN) -> Iterator[BinaryIO]:
    """What the block writes takes the place of the file's content, on the disk, once the block has ended well.

    What killed processes began is removed. Raises `OSError`, and leaves the file as it was then.
    """
    _sweep(path)
    handle, fresh = _begun(path, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, mode: int = OWN) -> None:
    """As `atomic_write`, in UTF-8. Raises `OSError`."""
    with atomic_write(path, mode) as file:
        file.write(text.encode())


def _begun(path: Path, mode: int) -> tuple[int, Path]:
    """A file beside it, open, and locked as long as this process is at it. Raises `OSError`."""
    while True:
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with contextlib.suppress(OSError):  # a file system without locks: there nothing is swept either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, fresh
        os.close(handle)  # another process took it for a killed one's before it was locked


def _sweep(path: Path) -> None:
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError), old.open("rb") as file:  # others may be gone, locked or someone else's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            old.unlink()
