"""The vote matrix, its count, and the result of a run."""

import enum
from datetime import datetime

from pydantic import Field

from bot.records.description import Description, RegressionTest
from bot.records.environment import Environment
from bot.records.execution import Ending, Execution, Test
from bot.records.issue import Issue
from bot.records.queue import Option
from bot.records.record import Record
from bot.records.repository import Context, Patch, by_path
from bot.records.revision import Revision
from bot.records.stopping import Stopped
from bot.records.survey import Obstacle
from bot.records.trajectory import Trajectory, Usage


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


class OwnTests(Record):
    """The repository's own test command on one tree."""

    execution: Execution
    failures: tuple[str, ...] | None = None  # ids of failing tests, where the runner names them
    passed: tuple[str, ...] = ()  # ids of tests that passed, where the runner names them
    proved: bool = False  # whether failures and passed are what the runner told, not what was printed
    ended: bool = False  # of a proved run: whether it reached the runner's own end
    marks: tuple[str, ...] = ()  # what was strange in how the tests ran: `Results.marks`
    count: int | None = None  # how many tests ran, as the output says
    files: tuple[str, ...] = ()  # where only some files of tests were run: these
    flaky: tuple[str, ...] = ()  # ids of tests that a first run broke and a second one of the same did not

    @property
    def stopped(self) -> bool:
        """Whether it was stopped at its time limit."""
        return self.execution.ending is Ending.TIMED_OUT


class NotCompared(enum.StrEnum):
    """Why the repository's own tests say nothing."""

    NO_COMMAND = "no command"  # neither the config nor the files name one
    NO_PYTEST = "no pytest"  # pytest is not in the sandbox
    NOT_RUN = "not run"  # the command can't be run, or it ran no test; `detail` is what it printed
    SANDBOX_FAILED = "sandbox failed"
    UNNAMED_FAILURES = "unnamed failures"  # they fail on the base commit, and the runner does not name which
    NO_TESTS = "no tests"  # the command ran, and no test; `detail` is what it printed
    NO_CANDIDATE = "no candidate"  # no candidate is credible without them


class Documented(Record):
    """Examples of the documentation in the files that a candidate changes, of those that hold on the base commit."""

    candidate: int  # index in the ballot
    held: int = 0  # hold on the candidate, too
    broken: tuple[str, ...] = ()  # its documentation has them still, and its code contradicts them: in words


class OwnTestsReport(Record):
    """The repository's own tests on the base commit and on the best-voted candidates."""

    command: tuple[str, ...] = ()  # empty: none that works
    base: OwnTests | None = None
    candidates: tuple[tuple[int, OwnTests], ...] = ()  # by candidate index in the ballot
    # The base commit's result on the same files, for candidates on which only some files of tests were run.
    bases: tuple[tuple[int, OwnTests], ...] = ()
    unimported: tuple[str, ...] = ()  # files of tests that can't be imported on the base commit
    under_way: str = ""  # the test that ran when the base commit's run was stopped, where the runner names it
    not_compared: NotCompared | None = None
    tried: tuple[str, ...] = ()  # where none works, the first one
    detail: str = ""  # what the command printed, or how it ended
    note: str = ""  # why nothing was compared, as earlier versions worded it
    documented: tuple[Documented, ...] = ()  # of the candidates whose files have such examples

    @property
    def compared(self) -> bool:
        return self.not_compared is None and not self.note

    def on(self, candidate: int) -> OwnTests | None:
        """The result on the candidate; None where they were not run."""
        return dict(self.candidates).get(candidate)

    def documented_on(self, candidate: int) -> Documented | None:
        """The examples of its documentation; None where there is none, or they were not run."""
        return next((one for one in self.documented if one.candidate == candidate), None)

    def base_of(self, candidate: int) -> OwnTests | None:
        """The result on the base commit that the candidate's is to be compared with."""
        return dict(self.bases).get(candidate, self.base)


class Standing(Record):
    """One candidate's place in the count."""

    candidate: int  # index in the ballot
    votes: int  # tests that fail on base and pass here, and that others wrote, or one with the same results
    own_votes: int  # the other tests that fail on base and pass here: its own
    cluster: int  # samples whose patch has the same results in all tests of the ballot
    size: int  # characters of the patch
    score: float = 0.0  # what ranks: `bot.solver.ballot.scores`
    regressions: tuple[str, ...] = ()  # tests and documented examples of the repository: passed on base, failed here
    mended: tuple[str, ...] = ()  # tests of the repository: failed on base, passed here
    disqualified: str = ""


class Rule(enum.StrEnum):
    """Which rule chose the winner."""

    ONLY_CREDIBLE = "only credible"  # no other candidate is credible
    TYPICAL = "typical"  # the credible candidates behave alike, and of their patches it is the usual one
    CLEAR_LEAD = "clear lead"  # its behaviour is far ahead in the count
    MODEL = "model"  # the model chose it among the finalists
    NO_CHOICE = "no choice"  # the model used up its calls without choosing, so the front-runner won
    NO_ANSWER = "no answer"  # the model could not be asked, so the front-runner won
    ANSWERED = "answered"  # a person answered which of two behaviours is right


class Choice(Record):
    """How the winner was chosen. Candidates by their index in the ballot."""

    rule: Rule
    front_runner: int  # first in the count
    finalists: tuple[int, ...] = ()  # the model was asked about these, best in the count first
    calls: int = 0
    passed: tuple[tuple[bool | None, ...], ...] = ()  # of each selection test: on base, then on each finalist
    error: str = ""  # why the model could not be asked, where that is known
    overruled: int | None = None  # the credible candidate with the most votes, where it has more than the winner
    compared: tuple[int, ...] = ()  # the candidates of `passed`, where those are not the finalists alone


class Struck(Record):
    """A test whose vote the model struck in the selection."""

    test: int  # index in the ballot
    reason: str  # the model's own words


class Doubt(enum.StrEnum):
    """Why a candidate is not credible."""

    DISQUALIFIED = "disqualified"  # it changes what judges it
    REGRESSIONS = "regressions"  # it breaks tests or documented examples of the repository
    OWN_TEST_ONLY = "own test only"  # only the test of its own trajectory speaks for it
    NO_VOTE = "no vote"  # no test that fails on base passes on it


class NoWinner(enum.StrEnum):
    """Why no candidate was chosen."""

    NO_CANDIDATE = "no candidate"  # no trajectory ended with an edit that applies
    NO_TEST = "no test"  # no trajectory ended with a test
    NOTHING_RAN = "nothing ran"  # no test could be run on the base commit
    NOT_REPRODUCED = "not reproduced"  # no test fails on the base commit
    NOT_CREDIBLE = "not credible"  # every candidate is in doubt
    DECLINED = "declined"  # the model found that none of the finalists resolves the issue
    UNSURE = "unsure"  # the winner is less likely right than the operator asks for
    UNDECIDED = "undecided"  # two behaviours are equally credible, and nobody could choose


class Repeated(Record):
    """A text that several things of the same kind have."""

    text: str
    times: int
    of: int  # how many things there are


class Abstention(Record):
    """Why no candidate was chosen."""

    cause: NoWinner
    doubts: tuple[tuple[Doubt, int], ...] = ()  # how many candidates each doubt is about
    missing: Repeated | None = None  # the missing module that most tests end with, where none passes anywhere
    setback: Repeated | None = None  # what most often kept trajectories from an edit, where there is no candidate
    said: str = ""  # the model's own words, where it declined
    calls: int = 0  # of the model, where it declined
    confidence: float | None = None  # that the one that would have won is right, where that was too little


class Parting(Record):
    """Two behaviours that remain, A and B, and where they part. A person is asked which is right."""

    candidates: tuple[int, int]  # the best of each in the ballot, A's first
    tests: tuple[int, int]  # of each one that it passes and the other fails, the shortest
    call: str = ""  # the smallest call that gives other results; "": not known
    results: tuple[str, str] = ("", "")  # what it gives with A, and with B


class Answered(Record):
    """A person's answer to which of two behaviours is right."""

    parting: Parting
    option: Option
    by: str  # login

    @property
    def test(self) -> int:
        """The test that the answer makes a deciding one."""
        return self.parting.tests[self.option is Option.B]


class Outcome(enum.StrEnum):
    """The result of a run."""

    SOLVED = "solved"  # a credible candidate was chosen
    ABSTAINED = "abstained"  # nothing credible; the evidence is shown instead
    FAILED = "failed"  # something broke; the reason is shown


class Verdict(Record):
    """The selection's result: facts, which `bot.publish.messages` words for people."""

    outcome: Outcome
    winner: int | None  # candidate index in the ballot
    standings: tuple[Standing, ...]  # the winner first, then best first
    choice: Choice | None = None  # where there is a winner
    abstention: Abstention | None = None  # where there is none
    selection_tests: tuple[Test, ...] = ()  # written by the selection machine
    struck: tuple[Struck, ...] = ()  # tests that lost their votes in the selection
    ballot: Ballot
    own_tests: OwnTestsReport | None = None  # None: not asked for
    parting: Parting | None = None  # of an abstention: two behaviours, of which a person may choose one
    answered: Answered | None = None  # by whom the winner's behaviour was chosen
    stopped: Stopped | None = None  # by which rule fewer attempts were made than the settings allow
    # Whether people know candidates by their place in `standings`. Earlier versions showed places in the ballot, and
    # stored the reason in words.
    numbered_by_rank: bool = False
    reason: str = ""
    confidence: float | None = None  # the probability that the winner is right, by the count; None: earlier versions

    def number(self, candidate: int) -> int:
        """How people know the candidate with that index in the ballot, from 1."""
        if not self.numbered_by_rank:
            return candidate + 1
        return 1 + next(place for place, s in enumerate(self.standings) if s.candidate == candidate)

    def candidate(self, number: int) -> int | None:
        """The index in the ballot of the candidate that people know by that number; None where there is none."""
        if not 1 <= number <= len(self.ballot.candidates):
            return None
        return self.standings[number - 1].candidate if self.numbered_by_rank else number - 1

    def standing(self, candidate: int) -> Standing:
        """The place of the candidate with that index in the ballot."""
        return next(standing for standing in self.standings if standing.candidate == candidate)


class Report(Record):
    """The whole count of one run, for the pull request, the alternatives, the pages and `--json`."""

    issue: Issue
    verdict: Verdict
    context: Context
    trajectories: tuple[Trajectory, ...]
    usage: Usage
    usage_by_stage: dict[str, Usage] = Field(default_factory=dict)  # empty in reports of earlier versions
    cut_short: str = ""  # which budget ended the sampling before its end; "" for none
    currency: str = ""  # of `usage.cost`; "" where the models have no price
    wall_seconds: float
    model: str = ""
    base_commit: str = ""
    base_branch: str = ""  # that the pull request is for; "": the default branch
    notes: tuple[str, ...] = ()  # what the maintainers should know: a bad .troop.toml, what of it is ignored, ...
    obstacles: tuple[Obstacle, ...] = ()  # what of the sandbox keeps tests from showing much
    seed: int = 0  # of the sampling
    environment: Environment = Environment()  # nothing is known in reports of earlier versions
    labelled_at: datetime | None = None  # dates the commits: the same patch is always the same commit
    description: Description | None = None  # of the winner, in the model's own words
    regression_test: RegressionTest | None = None  # published with the winner
    revision: Revision | None = None  # of a pull request: then the candidates change ...
    reviewed_commit: str = ""  # ... this commit of its branch, and the base commit is the first run's
    answers: tuple[str, ...] = ()  # to each remark of the revision, in the model's own words; "": none
    judged: bool = True  # whether the repository lets what becomes of it be kept

    @property
    def parent(self) -> str:
        """The commit that the candidates change."""
        return self.reviewed_commit or self.base_commit

    def published(self, candidate: int) -> Patch:
        """What a branch holds for that candidate: its patch, and for the winner the regression test, too."""
        patch = self.verdict.ballot.candidates[candidate].patch
        test = self.regression_test
        if test is None or candidate != self.verdict.winner:
            return patch
        return Patch(changes=by_path((*patch.changes, test.change)), diff=patch.diff + test.diff)
