"""Draws the samples that are still missing, judges each, and keeps it."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bot.contracts import Model, Sandbox
from bot.errors import EndpointError, SandboxError, SandboxUnavailable
from bot.evaluation import functions
from bot.evaluation.samples import Form, Sample, SampleFile
from bot.evaluation.tasks import FunctionTask
from bot.records import ModelCall, Reply
from bot.tasks import together

WAVE = 16  # samples of each task before the next wave: an evaluation that is stopped early has all tasks alike
_JUDGED = 200_000  # verdicts kept, so that an answer that comes again is not run again
LOOK = 1.0  # seconds between two looks at what other processes are at
_IN_VAIN = 10  # replies that were ended too early, beside a tenth of all, before none is any more
_FAILURES = 3  # in a row, times the calls under way, end the evaluation

T = TypeVar("T")


class Shared(Generic[T]):
    """What is missing, each taken by one of the processes that fill the folder together, and once by this one."""

    def __init__(
        self, file: SampleFile, missing: Callable[[], Iterator[T]], key: Callable[[T], tuple[str, int]]
    ) -> None:
        """`missing`: what is not in the file, as it is now; `key`: the task and the sample by which one is claimed."""
        self._file, self._missing, self._key = file, missing, key
        self._pass = missing()
        self._elsewhere = False  # whether another process is at some of the present pass
        self._failed: set[tuple[str, int]] = set()

    async def take(self) -> T | None:
        """The next one; None where all is there or was tried here. What other processes are at is waited for: it is
        taken over where one of them ends before."""
        while True:
            for item in self._pass:
                key = self._key(item)
                if key in self._failed or self._file.holds(*key):
                    continue
                if self._file.claim(*key):
                    return item
                self._elsewhere |= not self._file.has(*key)
            if not self._elsewhere:
                return None
            await asyncio.sleep(LOOK)
            self._pass, self._elsewhere = self._missing(), False

    def done(self, item: T, *, failed: bool = False) -> None:
        """End the claim; what failed is not tried again by this process."""
        key = self._key(item)
        if failed:
            self._failed.add(key)
        self._file.release(*key)


async def turn(file: SampleFile) -> None:
    """Wait until this process alone is at what comes after the last sample, until it closes the file."""
    while not file.claim_report():  # noqa: ASYNC110 - another process lets go of it
        await asyncio.sleep(LOOK)


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn."""

    samples: int  # of each task
    temperature: float
    seed: int
    max_tokens: int  # of a reply
    at_once: int
    form: Form = "chat"


Tell = Callable[[int, int, float], None]  # samples done, samples in all, seconds left (not a number: not known)


def missing(
    tasks: Sequence[FunctionTask], samples: int, file: SampleFile, wave: int = WAVE
) -> Iterator[tuple[FunctionTask, int]]:
    """What is still to be drawn, wave after wave."""
    for begin in range(0, samples, wave):
        for task in tasks:
            for sample in range(begin, min(begin + wave, samples)):
                if not file.has(task.id, sample):
                    yield task, sample


async def draw_functions(
    tasks: Sequence[FunctionTask], model: Model, sandbox: Sandbox, drawing: Drawing, file: SampleFile, tell: Tell
) -> str:
    """Draw, judge and keep all missing samples, `at_once` at a time. What the last call that failed said, or "".

    Raises `EndpointError`, also where call after call fails, and `SandboxUnavailable`.
    """
    total = len(tasks) * drawing.samples
    clock = Clock(file.done, total, drawing.at_once)
    judge = _Judge(sandbox)
    brief = _Brief(model)
    shared = Shared(file, lambda: missing(tasks, drawing.samples, file), lambda one: (one[0].id, one[1]))
    failures, said = 0, ""

    async def worker() -> None:
        nonlocal failures, said
        while (one := await shared.take()) is not None:
            task, sample = one
            asked = functions.call(
                task, sample, temperature=drawing.temperature, seed=drawing.seed, max_tokens=drawing.max_tokens
            )
            if drawing.form == "completion":
                reply = await model.reply(functions.as_completion(asked, task.prompt))
                if not reply.failed:
                    reply = reply.model_copy(update={"text": functions.completed(task, reply.text)})
            else:
                reply = await brief.reply(asked)
            if reply.failed and not reply.overflowed:
                failures, said = failures + 1, reply.text
                if failures >= _FAILURES * drawing.at_once:
                    raise EndpointError(f"the endpoint fails again and again: {reply.text}")
                shared.done(one, failed=True)  # not kept: the next start draws it
                continue
            failures = 0
            file.add(await judge.sample(task, sample, reply))
            shared.done(one)
            tell(file.done, total, clock.left(file.done))

    await together([worker() for _ in range(drawing.at_once)])
    return said


class _Brief:
    """Ends replies with the first block of code: it alone is judged, and words about it are half of what models write.

    A reply that ends where a block begins, or in a thought, is drawn again as a whole, with its seed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ended = self._again = 0

    async def reply(self, call: ModelCall) -> Reply:
        """Never raises for a failed call, as `Model.reply`."""
        if self._again > _IN_VAIN + self._ended // 10:
            return await self._model.reply(call)
        reply = await self._model.reply(call.model_copy(update={"stop": functions.END_OF_CODE}))
        if reply.failed:
            return reply
        self._ended += 1
        if functions.has_python_block(reply.text):
            return reply
        self._again += 1
        whole = await self._model.reply(call)
        return whole.model_copy(update={"usage": reply.usage + whole.usage})


class _Judge:
    """Runs the check of each distinct answer once."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._known: OrderedDict[bytes, tuple[bool, str]] = OrderedDict()

    async def sample(self, task: FunctionTask, sample: int, reply: Reply) -> Sample:
        solves, status = False, "the prompt does not fit the window"
        if not reply.failed:
            code = functions.code_of(reply.text)
            solves, status = await self._verdict(task, code)
            if reply.cut_off:
                status += ", cut off at the token limit"
        found = {"solves": solves, "text": reply.text, "status": status, "logprob": reply.logprob, "usage": reply.usage}
        return Sample.model_validate({"task": task.id, "sample": sample} | found)

    async def _verdict(self, task: FunctionTask, code: str) -> tuple[bool, str]:
        key = hashlib.sha256(f"{task.id}\0{code}".encode()).digest()
        if key in self._known:
            return self._known[key]
        try:
            execution = await self._sandbox.run(functions.job(task, code))
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            return False, str(error)
        verdict = functions.solves(execution), execution.status
        self._known[key] = verdict
        if len(self._known) > _JUDGED:
            self._known.popitem(last=False)
        return verdict


async def fault(task: FunctionTask, sandbox: Sandbox) -> str:
    """Why the task can't be judged here: its check fails with its own solution. "" where it passes."""
    execution = await sandbox.run(functions.job(task, task.reference))
    if functions.solves(execution):
        return ""
    return f"its check fails with its own solution ({execution.status}): {' '.join(execution.tail(3, 300).split())}"


class Clock:
    """How long the rest takes, by the pace since the start. What is under way counts as half done."""

    def __init__(self, before: int, total: int, at_once: int) -> None:
        self._started, self._before, self._total, self._at_once = time.monotonic(), before, total, at_once

    def left(self, done: int) -> float:
        """Seconds; not a number before the first sample."""
        if done == self._before:
            return float("nan")
        half = min(self._at_once, self._total - done) / 2
        return (time.monotonic() - self._started) / (done - self._before + half) * (self._total - done - half)
