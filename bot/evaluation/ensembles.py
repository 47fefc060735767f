"""Several evaluations of the same functions, counted together: whether an ensemble chooses better than its best member.

Each sample is one more that behaves as it does, and each test votes on every candidate, whoever wrote it: so the solver
counts other tools' branches and patches, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot.errors import EvaluationError
from bot.evaluation.estimates import Interval, shares
from bot.evaluation.figures import percent, ranged
from bot.evaluation.files import read_kept
from bot.evaluation.results import samples_of
from bot.evaluation.samples import ABOUT, MOST_SAMPLES, SAMPLES, About, Sample
from bot.evaluation.selectors import Integers, Matrix, Recorded, by_any, by_ours, by_random, per_task, read_matrices
from bot.evaluation.voting import JOURNAL, Written, tests_key
from bot.journal import read_entries
from bot.records import Record

DRAWS = 20  # of a part of each member, so that together they are as many as one


@dataclass(frozen=True)
class Member:
    """One evaluation: its samples and the tests of its model, copies included, by task."""

    name: str
    samples: dict[str, list[Sample]]
    tests: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Pooled:
    """The votes of all members on one task."""

    recorded: Recorded
    samples: tuple[Integers, ...]  # of each member: the candidate of each of its samples
    tests: tuple[Integers, ...]  # of each member: the test of each copy that it wrote

    def alone(self, member: int) -> Matrix:
        """One member's samples with its own tests."""
        return self.recorded.part(self.samples[member], self.tests[member])[0]

    def shared(self, rng: np.random.Generator) -> Matrix:
        """An equal part of each member's samples and tests, drawn without replacement: together as many as of one."""
        parts = len(self.samples)
        samples = [rng.choice(each, max(1, round(len(each) / parts)), replace=False) for each in self.samples]
        tests = [rng.choice(each, round(len(each) / parts), replace=False) for each in self.tests]
        return self.recorded.part(np.concatenate(samples), np.concatenate(tests))[0]


class Share(Record):
    """One row of the table; shares of the tasks, between 0 and 1."""

    of: str
    samples: float  # a task
    random: Interval  # any sample
    chosen: Interval  # as the solver chooses
    coverage: Interval  # whether there is anything to choose


class Ensemble(Record):
    """What members come to alone and together. The best member is the one that is chosen from best on these tasks."""

    tasks: int
    members: tuple[Share, ...]
    shared: Share  # an equal part of each, as many as of one
    everything: Share
    best: str
    shared_gain: Interval  # over the best member, in shares of the tasks
    everything_gain: Interval


def read_member(folder: Path) -> Member:
    """The evaluation in a folder. Raises `EvaluationError` where it holds none, or one of repositories."""
    about = read_kept(folder / ABOUT, About)
    if about.kind != "functions":
        raise EvaluationError(
            f"{folder} holds runs of the solver: their tests can't be run again here. Candidates of other tools take "
            "part in a run by `troop solve --from-branch` and `--patch`"
        )
    journal = folder / JOURNAL
    entries, _ = read_entries(journal.read_bytes() if journal.exists() else b"")
    samples = samples_of(folder / SAMPLES, MOST_SAMPLES)
    tests = {
        task: Written.model_validate_json(entries[tests_key(task)]).tests
        for task in samples
        if tests_key(task) in entries
    }
    return Member(f"{about.model} in {folder.name}", samples, tests)


def common(members: Sequence[Member], known: Sequence[str]) -> list[str]:
    """The tasks, of those known, that every member has samples of and any has tests of, in their order.

    Raises `EvaluationError` where there is none.
    """
    shared = [task for task in known if all(task in member.samples for member in members)]
    if not shared:
        raise EvaluationError("no task has samples in every folder: give evaluations of the same tasks")
    tested = [task for task in shared if any(member.tests.get(task) for member in members)]
    if not tested:
        raise EvaluationError("none of these evaluations has tests, which vote: run them with --tests")
    return tested


def pooled(line: str, members: Sequence[Member], task: str) -> Pooled:
    """From the matrix of all members' samples and tests, one behind the other; see `voting.fill`."""
    [recorded] = read_matrices([line])
    ends = np.cumsum([len(member.samples[task]) for member in members])
    written = [member.tests.get(task, ()) for member in members]
    place = {test: i for i, test in enumerate(dict.fromkeys(test for tests in written for test in tests))}
    return Pooled(
        recorded,
        tuple(np.split(recorded.candidate, ends[:-1])),
        tuple(np.array([place[test] for test in tests], dtype=np.int64) for tests in written),
    )


def measure(names: Sequence[str], tasks: Sequence[Pooled], *, seed: int = 0) -> Ensemble:
    """The table, with 95 % intervals over the tasks."""
    rng = np.random.default_rng(seed)
    alone = [[[task.alone(i)] for task in tasks] for i in range(len(names))]
    drawn = [[task.shared(rng) for _ in range(DRAWS)] for task in tasks]
    whole = [[task.recorded.matrix] for task in tasks]
    chosen = [per_task(by_ours, views) for views in alone]
    best = int(np.argmax([each.mean() for each in chosen]))
    return Ensemble(
        tasks=len(tasks),
        members=tuple(_share(name, views) for name, views in zip(names, alone, strict=True)),
        shared=_share(f"1/{len(names)} of each", drawn),
        everything=_share("all of each", whole),
        best=names[best],
        shared_gain=shares(per_task(by_ours, drawn) - chosen[best]),
        everything_gain=shares(per_task(by_ours, whole) - chosen[best]),
    )


Views = Sequence[Sequence[Matrix]]  # of each task, one or several draws


def _share(of: str, views: Views) -> Share:
    return Share(
        of=of,
        samples=float(np.mean([draws[0].samples.sum() for draws in views])),
        random=shares(per_task(by_random, views)),
        chosen=shares(per_task(by_ours, views)),
        coverage=shares(per_task(by_any, views)),
    )


def text(found: Ensemble) -> str:
    """For the terminal and for documents: Markdown."""
    lines = [f"{found.tasks} tasks; share solved, with 95% intervals over the tasks", ""]
    lines += ["| | samples | one at random | as the solver chooses | any |", "|---|---:|---:|---:|---:|"]
    for row in (*found.members, found.shared, found.everything):
        cells = (
            row.of,
            f"{row.samples:.1f}",
            percent(row.random.value),
            ranged(row.chosen),
            percent(row.coverage.value),
        )
        lines.append(f"| {' | '.join(cells)} |")
    gains = [(found.shared.of, found.shared_gain), (found.everything.of, found.everything_gain)]
    lines += ["", *(f"{_gain(of, gain)} than with {found.best} alone, the best member." for of, gain in gains), ""]
    return "\n".join(lines)


def _gain(of: str, gain: Interval) -> str:
    low, high = 100 * gain.low, 100 * gain.high
    return f"With {of}, {100 * gain.value:+.1f} points are solved ({low:+.1f} to {high:+.1f})"
