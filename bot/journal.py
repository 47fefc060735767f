"""Durable memory of finished work: what is in the journal is replayed, never paid for again."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bot.contracts import Journal, Model, Sandbox
from bot.records import Execution, Job, Message, Record, Reply

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


class ModelLayer:
    """A `Model` over another one; what changes on the way is the `reply`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def context_window(self) -> int:
        return self._model.context_window

    @property
    def on_cpu(self) -> bool:
        return self._model.on_cpu

    async def count_tokens(self, text: str) -> int:
        return await self._model.count_tokens(text)


class JournaledModel(ModelLayer):
    """A `Model` whose finished replies are replayed. One that ended in an error is asked again."""

    def __init__(self, model: Model, journal: Journal) -> None:
        super().__init__(model)
        self._journal = journal

    async def reply(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        # The prompt's hash is part of the key: a resumed run that asks something else is answered anew.
        digest = hashlib.sha256(json.dumps([m.model_dump() for m in messages]).encode()).hexdigest()[:12]
        full_key = f"model/{key}/{digest}"
        stored = await self._journal.get(full_key)
        if stored is not None:
            return Reply.model_validate_json(stored)
        reply = await self._model.reply(
            key, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, grammar=grammar
        )
        if reply.finish_reason != "error":
            await self._journal.put(full_key, reply.model_dump_json())
        return reply


class JournaledSandbox:
    """A `Sandbox` that runs an equal job once: finished ones are replayed, equal ones under way are shared.

    A job ends when nobody waits for it any more.
    """

    def __init__(self, sandbox: Sandbox, journal: Journal) -> None:
        self._sandbox = sandbox
        self._journal = journal
        self._running: dict[str, asyncio.Task[Execution]] = {}
        self._waiting: Counter[str] = Counter()

    async def run(self, job: Job) -> Execution:
        key = f"sandbox/{job.key}"
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(once(self._journal, key, Execution, lambda: self._sandbox.run(job)))
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        self._waiting[key] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if not task.done():
                    self._forget(key, task)  # who asks from now on gets a job of his own
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _forget(self, key: str, task: asyncio.Task[Execution]) -> None:
        if self._running.get(key) is task:
            del self._running[key]

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._sandbox.close()
