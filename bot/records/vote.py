"""The vote matrix, its count, and what a run came to."""

import enum
from datetime import datetime

from bot.records.execution import Execution, Test
from bot.records.issue import Issue
from bot.records.record import Record
from bot.records.repository import Context, Patch
from bot.records.trajectory import Trajectory, Usage


class Candidate(Record):
    """A distinct patch, with the trajectories that ended in it."""

    patch: Patch
    trajectories: tuple[int, ...]  # empty for an external patch
    tests: tuple[int, ...] = ()  # indices of the tests that its own trajectories wrote
    disqualified: str = ""  # why it lost its votes, e.g. `changes conftest.py`

    @property
    def samples(self) -> int:
        return max(1, len(self.trajectories))


class Ballot(Record):
    """The vote matrix: every test on every candidate and on the untouched repository.

    `cells[c][t]` is whether test t passes on candidate c, or None where it could not be run.
    """

    candidates: tuple[Candidate, ...]
    tests: tuple[Test, ...]
    base: tuple[bool | None, ...]  # whether test t passes on the untouched repository
    cells: tuple[tuple[bool | None, ...], ...]
    authors: tuple[tuple[int, ...], ...] = ()  # the trajectories that ended with test t; empty: not known

    @property
    def fails_on_base(self) -> tuple[bool, ...]:
        """Whether test t may vote: it ran on the untouched repository and failed."""
        return tuple(passed is False for passed in self.base)


class OwnTests(Record):
    """The repository's own test command on one tree."""

    execution: Execution
    failures: tuple[str, ...] | None = None  # ids of failing tests, where the runner names them


class OwnTestsReport(Record):
    """The repository's own tests on the untouched repository and on the best-voted candidates."""

    command: tuple[str, ...] = ()  # empty: the repository has none that we know of
    base: OwnTests | None = None
    candidates: tuple[tuple[int, OwnTests], ...] = ()  # by candidate index in the ballot
    note: str = ""  # why nothing was compared, in words that follow "the repository's own tests"

    def on(self, candidate: int) -> OwnTests | None:
        """What the candidate's tests came to; None where they were not run."""
        return dict(self.candidates).get(candidate)


class Standing(Record):
    """One candidate's place in the count."""

    candidate: int  # index in the ballot
    votes: int  # tests of other trajectories that fail on base and pass here
    own_votes: int  # the same, of its own trajectories' tests
    cluster: int  # candidates (by sample) that pass just the same tests
    size: int  # characters of the patch
    score: float = 0.0  # what ranks: `bot.solver.ballot.scores`
    regressions: tuple[str, ...] = ()  # of the repository's own tests: passed on base, failed here
    disqualified: str = ""


class Outcome(enum.StrEnum):
    """What a run came to."""

    SOLVED = "solved"  # a credible candidate was chosen
    ABSTAINED = "abstained"  # nothing credible; the evidence is shown instead
    FAILED = "failed"  # something broke; the reason is shown


class Verdict(Record):
    """The selection's result, everything that publishing needs."""

    outcome: Outcome
    winner: int | None  # candidate index in the ballot
    reason: str  # in words for the pull request or the issue
    standings: tuple[Standing, ...]  # best first
    selection_tests: tuple[Test, ...] = ()  # written by the selection machine
    ballot: Ballot
    own_tests: OwnTestsReport | None = None  # None: not asked for


class Report(Record):
    """The whole count of one run: what the pull request, the alternatives and `--json` are made of."""

    issue: Issue
    verdict: Verdict
    context: Context
    trajectories: tuple[Trajectory, ...]
    usage: Usage
    wall_seconds: float
    model: str = ""
    base_commit: str = ""
    notes: tuple[str, ...] = ()  # what the maintainers should know: a bad .troop.toml, what of it is ignored, ...
    labelled_at: datetime | None = None  # dates the commits: the same patch is always the same commit
