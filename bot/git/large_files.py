"""Git LFS: pointers in the tree become the files that they stand for, where the host has these.

A pointer is the repository's text, so hostile: only the hash and the size are read, and what the host gives counts if
it has both. Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

import asyncio
import hashlib
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from bot.contracts import RepositoryHost
from bot.records import StoredFile

_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
_SIZE = re.compile(rb"^size (\d{1,15})$", re.MULTILINE)
_EXTENDED = re.compile(rb"^ext-", re.MULTILINE)  # what a program of the user's made of the content


async def fill_pointers(
    host: RepositoryHost, repository: str, root: Path, pointers: Sequence[str], folder: Path
) -> tuple[tuple[str, ...], str]:
    """Put their content in the place of pointers below `root`; which were filled, and why others were not, in words.

    `folder`: for what is fetched, removed in the end. Raises `RateLimited` alone.
    """
    wanted = tuple(filter(None, [await asyncio.to_thread(read_pointer, root, path) for path in pointers]))
    if not wanted:
        return (), "their pointers can't be read" if pointers else ""
    await asyncio.to_thread(folder.mkdir, parents=True)
    try:
        why = await host.stored(repository, wanted, folder)
        filled = await asyncio.to_thread(_fill, root, wanted, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return filled, why or "what came has another hash or size"


def read_pointer(root: Path, path: str) -> StoredFile | None:
    """What the pointer stands for; None where it can't be read."""
    text = (root / path).read_bytes()
    oid, size = _OID.search(text), _SIZE.search(text)
    if oid is None or size is None or _EXTENDED.search(text):
        return None
    return StoredFile(path=path, oid=oid[1].decode(), size=int(size[1]))


def _fill(root: Path, wanted: Collection[StoredFile], folder: Path) -> tuple[str, ...]:
    """Where content of that hash is in the folder. The pointers' modes stay."""
    whole = {oid for oid in {one.oid for one in wanted} if _hash_of(folder / oid) == oid}
    filled = [one.path for one in wanted if one.oid in whole and (folder / one.oid).stat().st_size == one.size]
    oids = {one.path: one.oid for one in wanted}
    for path in filled:
        shutil.copyfile(folder / oids[path], root / path, follow_symlinks=False)
    return tuple(filled)


def _hash_of(path: Path) -> str:
    """SHA-256 of a plain file; "" where there is none."""
    if not path.is_file() or path.is_symlink():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
