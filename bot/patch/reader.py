"""Reads a checkout's files for editing: never through a link, and only what can be written back."""

import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from bot.patch.encoding import UTF_8, decoded

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
        found = decoded(at.read_bytes())
        if found is None:
            raise Unreadable("is binary")
        return found[0]

    return read


def text_of(root: Path) -> Callable[[str], str | None]:
    """Reads files of the checkout; None where `checkout_reader` would raise."""
    read = checkout_reader(root)

    def text(path: str) -> str | None:
        try:
            return read(path)
        except Unreadable:
            return None

    return text


def encoding_of(root: Path) -> Callable[[str], str]:
    """The encoding of an existing file of the checkout that `checkout_reader` could read."""

    def find(path: str) -> str:
        found = decoded((root / path).read_bytes())
        return found[1] if found else UTF_8

    return find


def is_executable(root: Path) -> Callable[[str], bool]:
    """Whether an existing file of the checkout may be executed."""
    return lambda path: os.access(root / path, os.X_OK)
