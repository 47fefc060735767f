"""What a run has finished: a resumed run reads it from the journal instead of doing it again."""

import fcntl
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bot.contracts import Journal
from bot.errors import JournalBusy
from bot.records import Record

R = TypeVar("R", bound=Record)


async def once(journal: Journal, key: str, kind: type[R], make: Callable[[], Awaitable[R]]) -> R:
    """The record stored under the key, else the result of `make()`, which is stored before it is returned."""
    stored = await journal.get(key)
    if stored is not None:
        return kind.model_validate_json(stored)
    made = await make()
    await journal.put(key, made.model_dump_json())
    return made


class MemoryJournal:
    """Keeps its entries in memory, for as long as the process lives."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    async def get(self, key: str) -> str | None:
        return self.entries.get(key)

    async def put(self, key: str, value: str) -> None:
        self.entries.setdefault(key, value)


class PrefixedJournal:
    """The part of another journal whose keys begin with `prefix`."""

    def __init__(self, journal: Journal, prefix: str) -> None:
        self._journal = journal
        self._prefix = prefix

    async def get(self, key: str) -> str | None:
        return await self._journal.get(self._prefix + key)

    async def put(self, key: str, value: str) -> None:
        await self._journal.put(self._prefix + key, value)


def read_entries(data: bytes) -> tuple[dict[str, str], int]:
    """The entries of a `FileJournal`'s file, and how many bytes of it they are: up to a line that a kill cut off."""
    entries: dict[str, str] = {}
    whole = 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            key, value = json.loads(line)
        except ValueError:
            break
        whole += len(line)
        entries[key] = value
    return entries, whole


class FileJournal(MemoryJournal):
    """A JSON-lines file, for `troop solve`, which has no database. An incomplete last line is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalBusy(
                "another `troop solve` works on this very question: wait for it, or stop it (Ctrl-C); then this one "
                "continues where it was"
            ) from None
        self.entries, whole = read_entries(path.read_bytes())
        self._file.truncate(whole)

    async def put(self, key: str, value: str) -> None:
        if key not in self.entries:
            self.entries[key] = value
            self._file.write(json.dumps([key, value]).encode() + b"\n")
            self._file.flush()

    def close(self, *, discard: bool = False) -> None:
        """Close the file; with `discard`, remove it. Safe to call twice."""
        if discard and not self._file.closed:  # while it is locked: nobody else has it
            self.path.unlink(missing_ok=True)
        self._file.close()
