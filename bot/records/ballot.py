"""The vote matrix: candidates, tests, and which passes on which."""

from bot.records.execution import Ending, Execution, Test
from bot.records.record import Record
from bot.records.repository import Patch


class External(Record):
    """A patch from elsewhere that takes part in the vote."""

    patch: Patch
    source: str  # as people know it: `fix.diff`, `branch other/fix`


class Candidate(Record):
    """A distinct patch, with the trajectories that ended in it."""

    patch: Patch
    trajectories: tuple[int, ...]  # empty for an external patch, and for one that the selection wrote
    tests: tuple[int, ...] = ()  # indices of the tests that its own trajectories wrote
    disqualified: str = ""  # why it lost its votes, e.g. `changes conftest.py`
    parents: tuple[int, ...] = ()  # of one that the selection wrote: the candidates that it is made of
    sources: tuple[str, ...] = ()  # where else it came from: a patch file, another tool's branch

    @property
    def samples(self) -> int:
        """Independent samples that ended in it, each source being one; none for one that the selection wrote."""
        return 0 if self.parents else max(1, len(self.trajectories) + len(self.sources))


class Differential(Record):
    """Candidates that no test tells apart, run on the same calls: those that tests make, and others like them.

    Nobody says what is right there, so it is no vote. But where they answer differently, most can't be right.
    """

    candidates: tuple[int, ...]  # indices in the ballot
    asked: int  # calls that each of them answered
    apart: int  # of these calls, how many they answer differently
    calls: tuple[str, ...]  # the shortest that they answer differently
    answers: tuple[tuple[str, ...], ...]  # to these calls, by candidate

    def of(self, candidate: int) -> tuple[str, ...]:
        """The answers of one of its candidates."""
        return self.answers[self.candidates.index(candidate)]


class Ballot(Record):
    """The vote matrix: every test on every candidate and on the base commit.

    `cells[c][t]` is whether test t passes on candidate c, or None where it could not be run.
    """

    candidates: tuple[Candidate, ...]
    tests: tuple[Test, ...]
    base: tuple[bool | None, ...]  # whether test t passes on the base commit
    cells: tuple[tuple[bool | None, ...], ...]
    authors: tuple[tuple[int, ...], ...] = ()  # the trajectories that ended with test t; empty: not known
    # Of a revision: whether test t passes on the reviewed state, which the candidates change. Else empty.
    reviewed: tuple[bool | None, ...] = ()
    unsteady: tuple[int, ...] = ()  # tests that failed before the change in one run and passed in the same again
    struck: tuple[int, ...] = ()  # tests that lost their votes in the selection; `Verdict.struck` says why
    # The distinct executions behind the matrix, each with the end of its output alone, and for each pair the index of
    # its own. Empty in reports of earlier versions.
    executions: tuple[Execution, ...] = ()
    base_executions: tuple[int | None, ...] = ()  # by test
    cell_executions: tuple[tuple[int | None, ...], ...] = ()  # by candidate and test
    differentials: tuple[Differential, ...] = ()  # of behaviours that several candidates have; each candidate in one

    def differential(self, candidate: int) -> Differential | None:
        """The one that the candidate is in; None where it was not asked."""
        return next((one for one in self.differentials if candidate in one.candidates), None)

    @property
    def fails_on_base(self) -> tuple[bool, ...]:
        """Whether test t reproduces the bug and may vote: it failed each time on the base commit, and is not struck.

        In a revision one that fails on the reviewed state votes as well: it shows what the review asks for.
        """
        failed = [passed is False for passed in self.base]
        if self.reviewed:
            failed = [on_base or passed is False for on_base, passed in zip(failed, self.reviewed, strict=True)]
        silent = {*self.struck, *self.unsteady}
        return tuple(fails and t not in silent for t, fails in enumerate(failed))

    @property
    def voting(self) -> tuple[int, ...]:
        """The indices of the tests that reproduce the bug."""
        return tuple(t for t, fails in enumerate(self.fails_on_base) if fails)

    def telling(self, passes: int, fails: int) -> tuple[int, ...]:
        """Of those that vote the tests that pass on the one candidate and fail on the other."""
        return tuple(t for t in self.voting if self.cells[passes][t] is True and self.cells[fails][t] is False)

    def passed(self, candidate: int) -> int:
        """How many of the tests that reproduce the bug pass on the candidate."""
        return sum(self.cells[candidate][t] is True for t in self.voting)

    def own(self, candidate: int) -> tuple[bool, ...]:
        """For each test, whether the candidate's only trajectory alone wrote it: then its pass says little.

        Where two trajectories end in one patch, the test of one is a test by another for the other one.
        """
        of = self.candidates[candidate]
        if len(of.trajectories) != 1:
            return (False,) * len(self.tests)
        if self.authors:
            return tuple(authors == of.trajectories for authors in self.authors)
        others = {t for i, other in enumerate(self.candidates) if i != candidate for t in other.tests}
        return tuple(t in of.tests and t not in others for t in range(len(self.tests)))

    def fails_own(self, candidate: int) -> bool:
        """Whether a test that one of its own trajectories ended with fails on the candidate."""
        return any(self.cells[candidate][t] is False for t in self.candidates[candidate].tests)

    @property
    def attempts(self) -> int:
        """Samples that ended in a candidate that may win, an external patch counted as one."""
        return sum(candidate.samples for candidate in self.candidates if not candidate.disqualified)

    def on_base(self, test: int) -> Execution | None:
        """What test t did on the base commit; None where it was not run, or the report is older."""
        index = self.base_executions[test] if self.base_executions else None
        return None if index is None else self.executions[index]

    def on(self, candidate: int, test: int) -> Execution | None:
        """What test t did on candidate c; None where it was not run, or the report is older."""
        index = self.cell_executions[candidate][test] if self.cell_executions else None
        return None if index is None else self.executions[index]

    def unproven(self, candidate: int) -> tuple[str, ...]:
        """Of each test that votes, and ended well on the candidate without a proof: the runner's reason, or ""."""
        found = [self.on(candidate, test) for test in self.voting]
        return tuple(one.unproven for one in found if one is not None and one.ending is Ending.CUT_SHORT)
