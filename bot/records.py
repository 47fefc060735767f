"""The nouns that the stages exchange: frozen, JSON-serialisable, with derived numbers as properties.

Every record validates at construction, so what is read back from the database, a webhook or a model is either a
well-formed record or a `pydantic.ValidationError`. Change one with `record.model_copy(update=...)`.
"""

import enum
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bot.lifecycle import RunState


class Record(BaseModel):
    """Base of all nouns."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# -- the issue ---------------------------------------------------------------------------------------------------


class IssueComment(Record):
    """A comment by somebody with write permission, made before the label."""

    author: str
    body: str


class Issue(Record):
    """An issue as it stood when it was labelled. Text is already cleaned of hidden characters (`bot.sanitize`)."""

    title: str
    body: str
    number: int = 0  # 0 for an issue read from a file
    author: str = ""
    url: str = ""
    comments: tuple[IssueComment, ...] = ()
    flags: tuple[str, ...] = ()  # what cleaning removed, in words for the pull request


# -- the repository ----------------------------------------------------------------------------------------------


class SourceFile(Record):
    """A text file of the checkout, or an excerpt of one (`excerpt`: parts were left out to fit the budget)."""

    path: str  # POSIX, relative to the root
    text: str
    excerpt: bool = False


class Summary(Record):
    """What the relevance model said of one file."""

    path: str
    relevant: bool
    text: str = ""


class Context(Record):
    """What the main model is shown of the repository, in the order it is shown."""

    files: tuple[SourceFile, ...]
    tokens: int  # of the files' text, counted with the model's tokenizer
    considered: int = 0  # files that the relevance model read
    relevant: int = 0  # files that it kept
    left_out: tuple[str, ...] = ()  # relevant files that did not fit the budget
    environment: str = ""  # what the sandbox has, in words


class Checkout(Record):
    """A repository on our disk. `root` holds its files and nothing else: git's own folder lies beside it."""

    root: str  # absolute path of the files
    workspace: str  # folder that holds `root` and git's folder; what `Forge.push` takes
    commit: str  # full name of the commit that was checked out
    files: tuple[str, ...]  # regular files, POSIX, relative to the root, sorted
    left_out: tuple[str, ...] = ()  # in words: links that lead out, submodules
    pointers: tuple[str, ...] = ()  # files that are Git LFS pointers: their content is elsewhere


class FileChange(Record):
    """One file as a candidate leaves it: its whole new text, or `None` where it is deleted."""

    path: str  # POSIX, relative to the root
    text: str | None
    executable: bool = False


class Patch(Record):
    """A change of the repository: the files' final state, and its unified diff for people."""

    changes: tuple[FileChange, ...]  # sorted by path
    diff: str  # `git diff` form, applies with `git apply`

    @property
    def id(self) -> str:
        """Content hash over the changes: equal patches are one candidate."""
        return hashlib.sha256("\0".join(f"{c.path}\0{c.text}" for c in self.changes).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Characters added or removed, the measure by which ties go to the shorter patch."""
        body = (line for line in self.diff.splitlines() if not line.startswith(("+++", "---")))
        return sum(len(line) - 1 for line in body if line.startswith(("+", "-")))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes)


# -- tests and executions ----------------------------------------------------------------------------------------


class Test(Record):
    """A script that a trajectory (or the selection) wrote. Exit code 0 means that it passes."""

    __test__ = False  # not a pytest class

    path: str  # file name whose ending or shebang says how it is run, e.g. `test_issue.py`
    text: str

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.path}\0{self.text}".encode()).hexdigest()[:16]


class Ending(enum.StrEnum):
    """How an execution ended."""

    EXITED = "exited"  # ran to its end; `exit_code` says the result
    CUT_SHORT = "cut short"  # exit code 0, but the script never reached its end: a faked success
    TIMED_OUT = "timed out"  # killed after the time limit
    OUT_OF_MEMORY = "out of memory"  # killed by the memory limit
    KILLED = "killed"  # by another signal
    UNAVAILABLE = "unavailable"  # the command is not there (127), or it can't be run (126)


class Execution(Record):
    """What the sandbox saw of one command."""

    ending: Ending
    exit_code: int | None = None
    output: str = ""  # stdout and stderr together, capped; secrets redacted
    truncated: bool = False
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.ending is Ending.EXITED and self.exit_code == 0

    @property
    def status(self) -> str:
        """`exit 1`, `timed out`, ...: the words that prompts and tables use."""
        return f"exit {self.exit_code}" if self.ending is Ending.EXITED else str(self.ending.value)

    def tail(self, lines: int, characters: int) -> str:
        """The end of the output, at most that many lines and characters."""
        kept = "\n".join(self.output.rstrip().splitlines()[-lines:])
        return kept[-characters:]


class Job(Record):
    """One command on one fresh copy of the tree. Built by the stages, run by a `Sandbox`."""

    changes: tuple[FileChange, ...] = ()  # the candidate; empty for the untouched repository
    test: Test | None = None  # written beside the tree from a trusted copy and run ...
    command: tuple[str, ...] = ()  # ... or this argv is run in the tree (the repository's own tests)
    timeout: float = 100.0  # seconds

    @property
    def key(self) -> str:
        """Content hash of what is run on what: an equal job is not run twice."""
        return hashlib.sha256(self.model_dump_json(exclude={"timeout"}).encode()).hexdigest()[:24]


# -- trajectories ------------------------------------------------------------------------------------------------


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Record):
    """Model work. Tokens as the endpoint reports them."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # model time, summed over calls that may have run side by side

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class Reply(Record):
    """One finished model call, as it is stored so that it is never paid for twice."""

    text: str
    finish_reason: str = "stop"  # `stop`, `length`, or `error` where the endpoint gave up; then `text` says why
    usage: Usage = Usage()

    @property
    def failed(self) -> bool:
        return self.finish_reason == "error"

    @property
    def cut_off(self) -> bool:
        return self.finish_reason == "length"


class TrajectoryEnd(enum.StrEnum):
    """How a trajectory ended."""

    DONE = "done"  # the model said that it is done
    OUT_OF_CALLS = "out of calls"  # the call budget was spent; the last edit that applied is the candidate
    NO_EDIT = "no edit"  # no edit that applies was ever written
    FAILED = "failed"  # the endpoint failed or answered garbage to the end


class Trajectory(Record):
    """One multi-turn sample: what the test machine and the edit machine ended with."""

    index: int
    test: Test | None
    patch: Patch | None
    end: TrajectoryEnd
    detail: str = ""  # in words, where the end needs explaining
    calls: int = 0


# -- the vote ----------------------------------------------------------------------------------------------------


class Candidate(Record):
    """A distinct patch, with the trajectories that ended in it."""

    patch: Patch
    trajectories: tuple[int, ...]  # empty for a foreign candidate
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


# -- the queue ---------------------------------------------------------------------------------------------------


class CommandName(enum.StrEnum):
    """What `/troop ...` understands."""

    HELP = "help"
    STATUS = "status"
    ALTERNATIVES = "alternatives"
    USE = "use"
    RETRY = "retry"
    STOP = "stop"


class Command(Record):
    """What a `/troop` comment asks for."""

    name: CommandName
    argument: int | None = None  # the candidate's number, for `use`, counted from 1


class IssueState(Record):
    """An issue as GitHub has it now."""

    open: bool
    labels: tuple[str, ...]
    is_pull_request: bool = False


class ClaimedRun(Record):
    """A run as the worker that holds its lease sees it."""

    id: int
    repository: str  # owner/name
    installation_id: int | None
    issue: Issue  # the labelled snapshot
    sender: str  # who asked for it
    labelled_at: datetime
    state: RunState
    attempt: int  # fences every write of this worker


class ClaimedCommand(Record):
    """A command as the worker that executes it sees it; `run` is the newest run of the issue, if there ever was one."""

    id: int
    repository: str
    installation_id: int | None
    issue_number: int
    comment_id: int
    sender: str
    command: Command
    run_id: int | None
    run_state: RunState | None
    attempt: int = 0  # fences every write of the worker that executes it


def by_path(changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    """The changes in the order that `Patch` wants them."""
    return tuple(sorted(changes, key=lambda change: change.path))
