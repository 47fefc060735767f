"""The samples of an evaluation on disk, one a line, and how many of them solve each task.

The file is only ever appended to. What is kept in memory is a byte a sample and the sums, however long replies are.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from bot.atomic import SHARED, write_text
from bot.errors import EvaluationError
from bot.evaluation.files import read_kept, written_to
from bot.records import Record, Usage
from bot.sanitize.redact import redact_known

SAMPLES = "samples.jsonl"
ABOUT = "about.json"
DRAWN = "samples"  # the stage of a function's sample
MOST_SAMPLES = 10_000  # of a task
Form = Literal["chat", "completion"]  # a question to a chat model; the head of a function, which a base model completes
_MISSING, _FAILS, _SOLVES, _SPARED = 0, 1, 2, 3


class Sample(Record):
    """One sample, judged."""

    task: str
    sample: int  # counted from 0
    solves: bool
    text: str  # the reply, or the patch as a unified diff; "" without one
    status: str = ""  # how the judging ended, e.g. `exit 1`; what kept the sample from an answer
    logprob: float | None = None  # mean of the reply's tokens; None: not given
    selected: bool = False  # whether the selection chose its patch
    drawn: bool = True  # whether it was made; False where a rule ended the sampling before
    usage: Usage = Usage()  # of a repository's task: of all its samples, with the first
    stages: dict[str, Usage] = Field(default_factory=dict)  # what `usage` went into; {}: into the sample itself


class About(Record):
    """How an evaluation was asked for: samples that were drawn otherwise are not mixed with it."""

    tasks: str  # the file's name
    kind: Literal["functions", "repositories"]
    number: int  # of tasks
    digest: str  # of all tasks
    model: str
    temperature: float | None  # None: the solver's
    seed: int
    max_tokens: int | None  # of a reply; None: the solver's
    samples: int | None = None  # of a task, where they are drawn and chosen from together
    stop: str | None = None  # the rule by which fewer are drawn, with its number
    form: Form = "chat"  # of functions


class SampleFile:
    """`SAMPLES` in a folder, which several processes of this machine may fill together. Raises `EvaluationError` where
    it is another evaluation's, or of another kind. Use it in a `with` block, once in a process.
    """

    def __init__(self, folder: Path, about: About, tasks: Sequence[str], *, secrets: Sequence[str] = ()) -> None:
        """`secrets`: what no sample that is written may hold."""
        self._secrets = tuple(secrets)
        self.path, self.about = folder / SAMPLES, about
        self.stages: dict[str, Usage] = {}  # what all samples used, by what it went into
        self._place = {task: i for i, task in enumerate(tasks)}
        self._marks = [bytearray() for _ in tasks]
        self._whole = 0  # bytes that were read, or written here
        self._line = 0
        self._held: set[int] = set()
        self._folder, self._done = folder, 0
        with contextlib.ExitStack() as opened, written_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what could not be written would be written later, behind other lines.
            self._file = opened.enter_context(self.path.open("ab", buffering=0))
            self._lines = opened.enter_context(self.path.open("rb"))
            self._claims = opened.enter_context((folder / "claims").open("ab"))
            with self._alone():
                _check_about(folder / ABOUT, about)
                self._catch_up()
            self._opened = opened.pop_all()

    def __enter__(self) -> "SampleFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process reads or writes the file."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        """Read what others have added. A line without its end is of a process that was killed: it goes."""
        self._lines.seek(self._whole)
        for line in self._lines:
            if not line.endswith(b"\n"):
                self._file.truncate(self._whole)
                break
            self._line += 1
            self._count(read_sample(line, f"{self.path}, line {self._line}"))
            self._whole += len(line)

    def claim(self, task: str, sample: int) -> bool:
        """Take the sample, so that no other process draws it; False where it is there, or taken.

        A claim ends with `release` and with the process, however that ends.
        """
        at = self._place[task] * MOST_SAMPLES + sample
        if at in self._held or not self._lock(at):
            return False
        with self._alone():
            self._catch_up()
        if self.has(task, sample):
            self._unlock(at)
            return False
        return True

    def holds(self, task: str, sample: int) -> bool:
        """Whether this process has claimed it."""
        return self._place[task] * MOST_SAMPLES + sample in self._held

    def release(self, task: str, sample: int) -> None:
        """End the claim."""
        self._unlock(self._place[task] * MOST_SAMPLES + sample)

    def claim_report(self) -> bool:
        """Take what comes after the last sample; False where another process is at it."""
        return self._lock(len(self._place) * MOST_SAMPLES)

    def _lock(self, at: int) -> bool:
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except (BlockingIOError, PermissionError):  # which of the two, depends on the system
            return False
        self._held.add(at)
        return True

    def _unlock(self, at: int) -> None:
        self._held.discard(at)
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, at)

    def _count(self, sample: Sample) -> None:
        place = self._place.get(sample.task)
        if place is None:
            raise EvaluationError(f"{self.path} has samples of {sample.task}, which is not among the tasks")
        marks = self._marks[place]
        if len(marks) <= sample.sample:
            marks.extend(bytes(sample.sample + 1 - len(marks)))
        self._done += marks[sample.sample] == _MISSING
        marks[sample.sample] = _SPARED if not sample.drawn else _SOLVES if sample.solves else _FAILS
        for stage, used in (sample.stages or {DRAWN: sample.usage}).items():
            if used.calls:
                self.stages[stage] = self.stages.get(stage, Usage()) + used

    def has(self, task: str, sample: int) -> bool:
        """Whether the sample is there."""
        marks = self._marks[self._place[task]]
        return sample < len(marks) and marks[sample] != _MISSING

    def add(self, sample: Sample) -> None:
        """Write it, so that it outlives a kill of this process. Raises `EvaluationError` where the disk is full."""
        said = {name: redact_known(getattr(sample, name), self._secrets) for name in ("text", "status")}
        line = sample.model_copy(update=said).model_dump_json().encode() + b"\n"
        with self._alone(), written_to(self._folder):
            self._catch_up()
            left = memoryview(line)
            while left:  # a part that is written alone has no end, and goes at the next look
                left = left[self._file.write(left) :]
            self._count(sample)
            self._whole += len(line)
            self._line += 1

    @property
    def usage(self) -> Usage:
        """Of all samples."""
        return sum(self.stages.values(), Usage())

    @property
    def done(self) -> int:
        """Samples that are there, or that a rule made needless."""
        return self._done

    def counts(self, first: int | None = None) -> list[tuple[int, int]]:
        """Of each task: samples drawn, and samples that solve it; of the `first` ones alone where that is given."""
        parts = [marks[:first] for marks in self._marks]
        return [(part.count(_FAILS) + part.count(_SOLVES), part.count(_SOLVES)) for part in parts]


def read_sample(line: bytes, where: str) -> Sample:
    """One line of the file. Raises `EvaluationError`."""
    try:
        return Sample.model_validate_json(line)
    except ValidationError as error:
        raise EvaluationError(f"{where}: {error.errors()[0]['msg']}; this file is `troop eval`'s own") from None


def _check_about(path: Path, about: About) -> None:
    if not path.exists():
        write_text(path, about.model_dump_json(indent=2) + "\n", SHARED)
        return
    before = read_kept(path, About)
    if before == about:
        return
    was, now = before.model_dump(), about.model_dump()
    differ = ", ".join(
        "its tasks were others" if name == "digest" else f"{name} was {json.dumps(was[name])}"
        for name in was
        if was[name] != now[name]
    )
    raise EvaluationError(f"{path.parent} holds another evaluation ({differ}): give another --out")
