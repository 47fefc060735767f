"""Durable memory of finished work: what is in the journal is replayed, never paid for again."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bot.contracts import Journal
from bot.records import Record

R = TypeVar("R", bound=Record)


async def once(journal: Journal, key: str, kind: type[R], make: Callable[[], Awaitable[R]]) -> R:
    """The record stored under the key; or else `make()`, stored before it is returned."""
    stored = await journal.get(key)
    if stored is not None:
        return kind.model_validate_json(stored)
    made = await make()
    await journal.put(key, made.model_dump_json())
    return made


class MemoryJournal:
    """Keeps nothing beyond the process."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    async def get(self, key: str) -> str | None:
        return self.entries.get(key)

    async def put(self, key: str, value: str) -> None:
        self.entries.setdefault(key, value)


class FileJournal(MemoryJournal):
    """A JSON-lines file: for `troop solve`, where there is no database. A line cut off by a kill is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0  # bytes up to the end of the last whole line
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):  # else the next line would be written on the same one
                    break
                try:
                    key, value = json.loads(line)
                except ValueError:
                    break
                whole += len(line)
                self.entries[key] = value
        self._file = path.open("ab")
        self._file.truncate(whole)

    async def put(self, key: str, value: str) -> None:
        if key not in self.entries:
            self.entries[key] = value
            self._file.write(json.dumps([key, value]).encode() + b"\n")
            self._file.flush()

    def close(self, *, discard: bool = False) -> None:
        """Close; with `discard` the finished run's file is removed."""
        self._file.close()
        if discard:
            self.path.unlink(missing_ok=True)
