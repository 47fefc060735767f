"""What keeps a file from being written, told from the place where it is or is to be, and what mends it."""

import errno
import os
import tempfile
from pathlib import Path

_ROOM = 1 << 20  # bytes: with less, SQLite can't extend its log


def unwritable(path: Path) -> str:
    """In words with the remedy; "" where nothing does. Folders above it that are not there yet are made."""
    # `Path.exists` raises where a folder above may not be looked into.
    folder = next(one for one in path.absolute().parents if os.path.exists(one))
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if trouble := lacking(folder):
        return trouble
    for place, kind in ((folder, os.W_OK | os.X_OK), (path, os.W_OK)):
        if os.path.exists(place) and not os.access(place, kind):
            return f"{place} can't be written by user {os.geteuid()}: give it to that user, or name another"
    return _on_trial(folder)


def lacking(folder: Path) -> str:
    """What the file system of a folder lacks, whoever writes there; "" where nothing, or the folder is elsewhere."""
    try:
        disk = os.statvfs(folder)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{folder} can't be read ({error.strerror})"
    if disk.f_flag & os.ST_RDONLY:
        return f"the file system of {folder} is read-only: mount it writable, or name another folder"
    if disk.f_bavail * disk.f_frsize < _ROOM:
        return f"the disk of {folder} is full: free some of it, or name a folder on another"
    if disk.f_files and not disk.f_favail:
        return f"the disk of {folder} takes no more files: remove some, or name a folder on another"
    return ""


def _on_trial(folder: Path) -> str:
    """What only writing shows: a quota, and a file system that the kernel reads only after an error of the disk's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1))
    except OSError as error:
        if error.errno == errno.EDQUOT:
            return f"user {os.geteuid()} has no more of the disk of {folder}: free some of it, or raise the quota"
        return (
            f"nothing can be written to the disk of {folder} ({error.strerror}): see the system's log; check the file "
            "system, and mount it writable"
        )
    return ""


def unwritable_sqlite(file: Path) -> str:
    """As `unwritable`, of a database of SQLite with the files beside it, which another user's command may have made."""
    for suffix in ("", "-wal", "-shm"):
        if trouble := unwritable(file.with_name(file.name + suffix)):
            return trouble
    return ""


def remedy(cause: str, file: Path) -> str:
    """What to do about an error of SQLite's; "" where the words for any database fit."""
    if trouble := unwritable_sqlite(file):
        return trouble
    if "locked" in cause:
        return f"another program writes to {file} for too long; end that one, or wait for it"
    if "malformed" in cause or "disk I/O error" in cause:
        return (
            f"{file} or its disk is damaged: end Troop, move it and the files beside it away, and fill a new one with "
            "`troop restore` from a backup; `sqlite3 FILE .recover` shows what can still be read"
        )
    return ""
