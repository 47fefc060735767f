"""Reads a checkout's files for editing: never through a link, and only what can be written back."""

import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

MAX_EDITABLE = 20_000_000  # bytes


class Unreadable(Exception):
    """A path that can't or may not be edited. The message says why; put the path before it."""


def checkout_reader(root: Path) -> Callable[[str], str | None]:
    """Reads files of the checkout for `bot.patch.apply`; the reader raises `Unreadable`."""

    def read(path: str) -> str | None:
        at = root
        for part in PurePosixPath(path).parts:
            at = at / part
            try:
                mode = at.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise Unreadable(f"can't be read ({error.strerror})") from error
            if stat.S_ISLNK(mode):
                raise Unreadable("is or is behind a symbolic link,")
        if stat.S_ISDIR(mode):
            raise Unreadable("is a folder")
        if not stat.S_ISREG(mode):
            raise Unreadable("is not a plain file")
        if at.stat().st_size > MAX_EDITABLE:
            raise Unreadable("is too large")
        raw = at.read_bytes()
        if b"\0" in raw:
            raise Unreadable("is binary")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise Unreadable("is not UTF-8") from error

    return read


def is_executable(root: Path) -> Callable[[str], bool]:
    """Whether an existing file of the checkout may be executed."""
    return lambda path: os.access(root / path, os.X_OK)
