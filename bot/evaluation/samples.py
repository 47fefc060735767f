"""The samples of an evaluation on disk, one a line, and how many of them solve each task.

The file is only ever appended to. What is kept in memory is a byte a sample and the sums, however long replies are.
"""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bot.errors import EvaluationError
from bot.records import Record, Usage

SAMPLES = "samples.jsonl"
_MISSING, _FAILS, _SOLVES = 0, 1, 2


class Sample(Record):
    """One sample, judged."""

    task: str
    sample: int  # counted from 0
    solves: bool
    text: str  # the reply, or the patch as a unified diff; "" without one
    status: str = ""  # how the judging ended, e.g. `exit 1`; what kept the sample from an answer
    selected: bool = False  # whether the selection chose its patch
    usage: Usage = Usage()  # of a repository's task: of all its samples, with the first


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


class SampleFile:
    """`SAMPLES` in a folder. Raises `EvaluationError` where another evaluation writes there, or wrote another
    kind of sample. Use it in a `with` block.
    """

    def __init__(self, folder: Path, about: About, tasks: Sequence[str]) -> None:
        self.path = folder / SAMPLES
        self.usage = Usage()
        self._place = {task: i for i, task in enumerate(tasks)}
        self._marks = [bytearray() for _ in tasks]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_about(folder / "about.json", about)
            self._read()
        except BlockingIOError:
            self._file.close()
            raise EvaluationError(
                f"another evaluation writes into {folder}: wait for it, or give another --out"
            ) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SampleFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self) -> None:
        whole = 0  # bytes up to the end of the last whole line
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):  # cut off by a kill
                    break
                self._count(read_sample(line, f"{self.path}, line {number}"))
                whole += len(line)
        self._file.truncate(whole)

    def _count(self, sample: Sample) -> None:
        place = self._place.get(sample.task)
        if place is None:
            raise EvaluationError(f"{self.path} has samples of {sample.task}, which is not among the tasks")
        marks = self._marks[place]
        if len(marks) <= sample.sample:
            marks.extend(bytes(sample.sample + 1 - len(marks)))
        marks[sample.sample] = _SOLVES if sample.solves else _FAILS
        self.usage += sample.usage

    def has(self, task: str, sample: int) -> bool:
        """Whether the sample is there."""
        marks = self._marks[self._place[task]]
        return sample < len(marks) and marks[sample] != _MISSING

    def add(self, sample: Sample) -> None:
        """Write it, so that it outlives a kill of this process."""
        self._count(sample)
        self._file.write(sample.model_dump_json().encode() + b"\n")
        self._file.flush()

    @property
    def done(self) -> int:
        """Samples that are there."""
        return sum(len(marks) - marks.count(_MISSING) for marks in self._marks)

    def counts(self, first: int | None = None) -> list[tuple[int, int]]:
        """Of each task: samples drawn, and samples that solve it; of the `first` ones alone where that is given."""
        parts = [marks[:first] for marks in self._marks]
        return [(len(part) - part.count(_MISSING), part.count(_SOLVES)) for part in parts]


def read_sample(line: bytes, where: str) -> Sample:
    """One line of the file. Raises `EvaluationError`."""
    try:
        return Sample.model_validate_json(line)
    except ValidationError as error:
        raise EvaluationError(f"{where}: {error.errors()[0]['msg']}; this file is `troop eval`'s own") from None


def _check_about(path: Path, about: About) -> None:
    if not path.exists():
        path.write_text(about.model_dump_json(indent=2) + "\n")
        return
    try:
        before = About.model_validate_json(path.read_text())
    except ValidationError as error:
        raise EvaluationError(f"{path} is not one of `troop eval`: {error.errors()[0]['msg']}") from None
    if before == about:
        return
    was, now = before.model_dump(), about.model_dump()
    differ = ", ".join(f"{name} was {json.dumps(was[name])}" for name in was if was[name] != now[name])
    raise EvaluationError(f"{path.parent} holds another evaluation ({differ}): give another --out")
