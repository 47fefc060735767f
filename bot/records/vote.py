"""The count of a vote matrix, and the result of a run."""

import enum
from datetime import datetime

from pydantic import Field

from bot.records.ballot import Ballot
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
