"""Several evaluations of the same functions, counted together: whether an ensemble chooses better than its best member.

Each sample is one more that behaves as it does, and each test votes on every candidate, whoever wrote it: so the solver
counts other tools' branches and patches, too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot.errors import EvaluationError
from bot.evaluation.estimates import Interval, shares
from bot.evaluation.figures import percent, ranged
from bot.evaluation.files import read_kept
from bot.evaluation.results import samples_of
from bot.evaluation.samples import ABOUT, MOST_SAMPLES, SAMPLES, About, Sample
from bot.evaluation.selectors import Integers, Matrix, Recorded, by_any, by_ours, by_random, per_task, recorded
from bot.evaluation.voting import kept_tests
from bot.records import Record
from bot.solver.ballot import Array

Tests = Mapping[str, tuple[str, ...]]  # of each task, copies included
Views = Sequence[Sequence[Matrix]]  # of each task, one or several draws

DRAWS = 20  # of a part of what a member has


@dataclass(frozen=True)
class Member:
    """One evaluation: its samples and the tests of its model, copies included, by task."""

    name: str
    samples: dict[str, list[Sample]]
    tests: Tests


@dataclass(frozen=True)
class Pooled:
    """The votes on one task: of the tests of all members, or of those of another evaluation."""

    names: tuple[str, ...]  # of the members
    recorded: Recorded
    samples: tuple[Integers, ...]  # of each member: the candidate of each of its samples
    tests: tuple[Integers, ...]  # of each member: the test of each copy that it wrote
    others: Integers  # tests of another evaluation, which always vote

    def part(self, samples: Sequence[int], rng: np.random.Generator) -> Matrix:
        """So many samples of each member, and a like share of its tests, drawn without replacement."""
        drawn = [rng.choice(each, number, replace=False) for number, each in zip(samples, self.samples, strict=True)]
        shares = [number / len(each) for number, each in zip(samples, self.samples, strict=True)]
        tests = [
            rng.choice(each, round(share * len(each)), replace=False)
            for share, each in zip(shares, self.tests, strict=True)
        ]
        return self.recorded.part(np.concatenate(drawn), np.concatenate([*tests, self.others]))[0]

    @property
    def sizes(self) -> list[int]:
        """Samples of each member."""
        return [len(each) for each in self.samples]


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
    members: tuple[Share, ...]  # with all of their samples
    equal: tuple[Share, ...]  # the members again, with as many samples as the equal parts are together
    shared: Share  # equal parts of all members, as many as the smallest has
    everything: Share
    best: str
    best_of_equal: str
    shared_gain: Interval  # over the best of `equal`, in shares of the tasks
    everything_gain: Interval  # over the best member with all of its samples


def read_member(folder: Path) -> Member:
    """The evaluation in a folder. Raises `EvaluationError` where it holds none, or one of repositories."""
    about = read_kept(folder / ABOUT, About)
    if about.kind != "functions":
        raise EvaluationError(
            f"{folder} holds runs of the solver: their tests can't be run again here. Candidates of other tools take "
            "part in a run by `troop solve --from-branch` and `--patch`"
        )
    return Member(f"{about.model} in {folder.name}", samples_of(folder / SAMPLES, MOST_SAMPLES), kept_tests(folder))


def common(members: Sequence[Member], others: Tests, known: Sequence[str]) -> list[str]:
    """The tasks, of those known, that every member has samples of, and any of them or of the others tests.

    Raises `EvaluationError` where there is none.
    """
    shared = [task for task in known if all(task in member.samples for member in members)]
    if not shared:
        raise EvaluationError("no task has samples in every folder: give evaluations of the same tasks")
    tested = [task for task in shared if others.get(task) or any(member.tests.get(task) for member in members)]
    if not tested:
        raise EvaluationError("none of these evaluations has tests, which vote: run them with --tests")
    return tested


def pooled(line: str, members: Sequence[Member], others: Tests, task: str) -> str:
    """The line of a matrix of all members' samples and tests, then the others' (`voting.fill`), with whose they are."""
    written = [*(member.tests.get(task, ()) for member in members), others.get(task, ())]
    place = {test: i for i, test in enumerate(dict.fromkeys(test for tests in written for test in tests))}
    places = [[place[test] for test in tests] for tests in written]
    whose = {
        "names": [member.name for member in members],
        "samples": [len(member.samples[task]) for member in members],
        "tests": places[:-1],
        "others": places[-1],
    }
    return json.dumps(json.loads(line) | {"members": whose})


def read_pooled(line: str) -> Pooled:
    """From such a line."""
    row = json.loads(line)
    found, whose = recorded(row), row["members"]
    tests = [np.array(each, dtype=np.int64) for each in (*whose["tests"], whose["others"])]
    samples = np.split(found.candidate, np.cumsum(whose["samples"])[:-1])
    return Pooled(tuple(whose["names"]), found, tuple(samples), tuple(tests[:-1]), tests[-1])


def measure(tasks: Sequence[Pooled], *, seed: int = 0) -> Ensemble:
    """The table, with 95 % intervals over the tasks."""
    rng = np.random.default_rng(seed)
    names = tasks[0].names
    parts = len(names)
    equal = [[max(1, min(task.sizes) // parts)] * parts for task in tasks]
    shared = [[task.part(each, rng) for _ in range(DRAWS)] for task, each in zip(tasks, equal, strict=True)]
    alone = [[[task.part(_only(i, task.sizes), rng)] for task in tasks] for i in range(parts)]
    fewer = [[_fewer(task, i, sum(each), rng) for task, each in zip(tasks, equal, strict=True)] for i in range(parts)]
    whole = [[task.recorded.matrix] for task in tasks]
    (best, chosen), (best_of_equal, chosen_of_equal) = _best(alone), _best(fewer)
    return Ensemble(
        tasks=len(tasks),
        members=tuple(_share(name, views) for name, views in zip(names, alone, strict=True)),
        equal=tuple(_share(name, views) for name, views in zip(names, fewer, strict=True)),
        shared=_share("equal parts", shared),
        everything=_share("all of each", whole),
        best=names[best],
        best_of_equal=names[best_of_equal],
        shared_gain=shares(per_task(by_ours, shared) - chosen_of_equal),
        everything_gain=shares(per_task(by_ours, whole) - chosen),
    )


def _only(member: int, sizes: Sequence[int]) -> list[int]:
    return [size if i == member else 0 for i, size in enumerate(sizes)]


def _fewer(task: Pooled, member: int, number: int, rng: np.random.Generator) -> list[Matrix]:
    """Draws of so many samples of a member; one where it has no more."""
    sizes = [min(number, size) for size in task.sizes]
    draws = DRAWS if sizes[member] < task.sizes[member] else 1
    return [task.part(_only(member, sizes), rng) for _ in range(draws)]


def _best(members: Sequence[Views]) -> tuple[int, Array]:
    """The member that is chosen from best, and what is chosen of it, `[tasks]`."""
    chosen = [per_task(by_ours, views) for views in members]
    best = int(np.argmax([each.mean() for each in chosen]))
    return best, chosen[best]


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
    equal = [] if [row.samples for row in found.equal] == [row.samples for row in found.members] else found.equal
    for row in (*found.members, *equal, found.shared, found.everything):
        cells = (
            row.of,
            f"{row.samples:.1f}",
            percent(row.random.value),
            ranged(row.chosen),
            percent(row.coverage.value),
        )
        lines.append(f"| {' | '.join(cells)} |")
    as_many = (
        f"{_gain(found.shared.of, found.shared_gain)} than with as many of {found.best_of_equal}, the best member."
    )
    all_of = f"{_gain(found.everything.of, found.everything_gain)} than with {found.best} alone, the best member."
    return "\n".join([*lines, "", as_many, all_of, ""])


def _gain(of: str, gain: Interval) -> str:
    low, high = 100 * gain.low, 100 * gain.high
    return f"With {of}, {100 * gain.value:+.1f} points are solved ({low:+.1f} to {high:+.1f})"
