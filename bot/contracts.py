"""The interfaces between the rooms. Each method says what it changes, when it is safe to call, and what it raises."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from bot.lifecycle import RunState
from bot.records import (
    Bounds,
    BranchRule,
    Check,
    Checkout,
    CheckRun,
    Execution,
    FileChange,
    IssueComment,
    IssueState,
    ModelCall,
    Patch,
    PullState,
    Reply,
    Review,
    SandboxJob,
    StoredFile,
    Submodule,
)


class Journal(Protocol):
    """What one run has finished, as JSON by key: a killed run is resumed from it.

    Keys are paths such as `relevance/src/a.py` or `trajectory/3/test/1`. A key is written once; a second `put` of the
    same key keeps the first value.
    """

    async def get(self, key: str) -> str | None:
        """The stored JSON, or None. Safe at any time."""

    async def put(self, key: str, value: str) -> None:
        """Store durably before returning. Raises `LeaseLost` if this worker's attempt is no longer the newest."""


class Model(Protocol):
    """A chat model behind an OpenAI-compatible endpoint."""

    @property
    def name(self) -> str:
        """As the endpoint knows it."""

    @property
    def context_window(self) -> int:
        """Tokens that prompt and reply may have together."""

    @property
    def on_cpu(self) -> bool:
        """Whether the endpoint says that it runs on a CPU, where tokens are slow to read and to write."""

    async def reply(self, call: ModelCall) -> Reply:
        """Answer the call. The grammar is ignored if the endpoint does not support grammars.

        Returns a reply with `failed` if the call fails after all retries. Raises `EndpointError` only if the endpoint
        can't be used at all, `EndpointDown` if it can't be reached now.
        """

    async def count_tokens(self, text: str) -> int:
        """Tokens of the text by the model's own tokenizer if it is available, else an estimate, usually too high."""


# Called when a job begins, with what tells its output so far; again where it begins anew.
Follow = Callable[[Callable[[], str]], None]


class Sandbox(Protocol):
    """Runs jobs, each on its own fresh copy of one repository's tree. Safe to call concurrently."""

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        """Run one job to its end or its time limit. Raises `SandboxError` where the sandbox itself failed for good.

        `follow` is called from any thread; not at all where the result is known, or the job runs for another caller.
        """

    async def close(self) -> None:
        """Destroy what was started. Safe to call twice."""


class Progress(Protocol):
    """Gets from the stages how far they are; must return at once."""

    def update(self, state: RunState, done: int, total: int, note: str = "") -> None: ...


class Dispatcher(Protocol):
    """Carries job ids (`run:ID:ATTEMPT` or `command:ID`) from the web to a worker, at least once each.

    Losing the queue loses nothing: the sweeper enqueues again what the database says is due.
    """

    async def enqueue(self, job_id: str) -> None:
        """Enqueue. Raises `ConnectionError` where the queue can't be reached; the caller may ignore it."""

    async def run(self) -> None:
        """Execute jobs until `close`, or until cancelled."""

    async def close(self) -> None:
        """Let running jobs finish for the grace period, then cancel them."""


OUR_COMMENT = "<!-- troop"  # how every comment of ours begins
OUR_QUESTION = f"{OUR_COMMENT}:question="  # how a question of ours begins
OUR_BRANCHES = "troop/"  # how every branch of ours begins
MAY_WRITE = frozenset({"admin", "write"})  # permissions with which people may start runs and give commands


class RepositoryHost(Protocol):
    """Where the repository lives: GitHub, or a local checkout.

    All calls are idempotent: made twice, they leave the same state as made once. Raise `ForgeError` and its children.
    """

    async def clone(self, repository: str, target: Path, commit: str = "") -> str:
        """Check out the default branch, or the given commit, below `target`; the commit's full name.

        A `bot.git.workspace.Workspace`: files in `target/tree`, git's own in `target/git`. What was in `target` is
        removed. No hooks, no submodules; size and time capped. Raises `CheckoutError` too.
        """

    @property
    def bounds(self) -> Bounds:
        """What a checkout may take; all its submodules together may take as much again."""

    async def module(self, module: Submodule, target: Path, bounds: Bounds) -> str:
        """Check out a submodule's recorded commit below `target`, as `clone` does; owner/name, or "" on a local disk.

        Raises `CheckoutError` and `ForgeError` with the reason why it can't be fetched, without what its address holds.
        """

    async def stored(self, repository: str, wanted: Sequence[StoredFile], folder: Path) -> str:
        """Put the content of files of Git LFS into `folder`, named by their hashes, which the caller checks.

        Why some are not there, in words for people; "" where all are.
        """

    async def commit(self, checkout: Checkout, patch: Patch, message: str, moment: datetime | None) -> str:
        """Commit the patch on top of the checkout's commit, in its workspace alone; the new commit's full name.

        The host knows the author. `moment` dates the commit; None takes the base commit's date. Raises `CheckoutError`
        where the patch can't be committed, and `Refused` where this host does not publish it.
        """

    async def push(self, repository: str, checkout: Path, branch: str, commit: str, *, force: bool) -> str:
        """Push a commit of the workspace `checkout` as a branch; with `force`, also over one that Troop itself made.

        The full name of the commit that the branch then has: a host that signs makes its own of the same content.
        Raises `BranchTaken` where the branch has a commit of somebody else.
        """


class IssueTracker(Protocol):
    """Where issues live, and pull requests, whose numbers, comments and labels are an issue's, too.

    All calls are idempotent: made twice, they leave the same state as made once. Raise `ForgeError` and its children.
    Text is redacted and cut to the tracker's limit here, so callers pass it whole.
    """

    async def own_login(self) -> str:
        """Our own login: the App's bot, or the token's user."""

    async def name_of(self, repository: str, number: int) -> str:
        """The name that the repository of this number (its id) has now; `repository` where the host does not say."""

    async def permission(self, repository: str, user: str) -> str:
        """`admin`, `write`, `read` or `none`; raises where GitHub does not say, so that callers fail closed."""

    async def issue_state(self, repository: str, number: int) -> IssueState:
        """The issue as it is now: a delivery may arrive late or out of order."""

    async def comments_before(self, repository: str, number: int, moment: datetime) -> tuple[IssueComment, ...]:
        """Comments last edited before the moment, by people with write permission; ours and bots' left out."""

    async def comment(self, repository: str, number: int, marker: str, body: str) -> str:
        """Create, or edit, the one comment that begins with the hidden marker, which `body` may lack; its URL."""

    async def react(self, repository: str, comment_id: int) -> None:
        """Put our eyes on a comment, so that its author sees that it was read."""

    async def set_label(self, repository: str, number: int, label: str, known: Sequence[str]) -> None:
        """Make `label` the only one of `known` on the issue; with an empty `label`, remove all of them."""

    async def pull_request(
        self, repository: str, head: str, title: str, body: str, *, draft: bool = True, base: str = ""
    ) -> str:
        """The open pull request of the branch `head`: created, or found and its text updated; its URL.

        `base`: the branch that it is for; empty: the default branch.
        """

    async def resolve_issue(self, repository: str, number: int) -> int:
        """The issue that a conversation is about: itself, or, for a pull request of ours, the issue it answers."""


class PullRequests(Protocol):
    """Pull requests of our own, revised after people reviewed them. As `IssueTracker`: idempotent, texts whole."""

    async def pull_state(self, repository: str, number: int) -> PullState:
        """The pull request as it is now."""

    async def review(self, repository: str, number: int, review: int) -> Review:
        """The submitted review with that id, and its author's comments. Text is as it was written."""

    async def reply(self, repository: str, number: int, thread: int, marker: str, body: str) -> None:
        """The one reply in that thread which carries the hidden marker: created unless it is there.

        A thread that somebody deleted is left alone.
        """

    async def changes_to(self, repository: str, checkout: Checkout, commit: str) -> tuple[FileChange, ...]:
        """What turns the checkout's files into those of another commit; links and binary files left out."""

    async def extend(self, repository: str, checkout: Path, branch: str, commit: str, onto: str) -> str:
        """Push the commit as the next one of our branch, which must be at `onto`. Never overwrites a commit.

        The full name of the pushed commit, as `push`. Raises `BranchTaken` where the branch has moved on or is gone.
        """


class BranchRules(Protocol):
    """What a repository lets be pushed."""

    async def hindering_rules(
        self, repository: str, branch: str, message: str, *, adds: bool
    ) -> tuple[BranchRule, ...]:
        """The rules that would refuse a commit with that message on our branch, those we may bypass left out.

        `adds`: to what the branch has, else in its place. Changes nothing. Raises `ForgeError`.
        """

    async def check_publishable(self, repository: str) -> None:
        """Raises `Refused` where no pull request of ours could be made there now: it is gone, archived, or we lack a
        permission. Changes nothing. Raises `ForgeError`."""


class Checks(Protocol):
    """What CI says of a commit, and whether the repository wants it mended. Reads alone. All raise `ForgeError`."""

    async def open_pull(self, repository: str, branch: str) -> int | None:
        """The number of the open pull request of that branch."""

    async def read_file(self, repository: str, path: str) -> str | None:
        """A small file of the default branch; None where it is not there."""

    async def checks(self, repository: str, commit: str) -> tuple[Check, ...]:
        """The newest of each name, our own left out."""

    async def ran(self, repository: str, check: Check) -> bool:
        """Whether a failed check began at all: GitHub fails jobs that it does not start, for an unpaid bill, say."""

    async def printed(self, repository: str, check: Check) -> str:
        """What a check of a commit of that repository printed, with a long log's end. Untrusted, and as it came."""


class CheckRuns(Protocol):
    """Check runs on commits."""

    async def check_run(self, repository: str, commit: str, run: CheckRun) -> None:
        """Make the commit's one check run of ours say this. Does nothing where we may not write any.

        As `IssueTracker`.
        """


class Forge(RepositoryHost, IssueTracker, PullRequests, BranchRules, Checks, CheckRuns, Protocol):
    """All of them, as publishing needs them."""

    async def tip(self, repository: str, branch: str) -> str:
        """The newest commit of the branch; "" where there is no such branch."""

    async def keep(
        self, repository: str, checkout: Path, name: str, text: Callable[[Collection[str]], str]
    ) -> tuple[str, str]:
        """Keep a file in the repository, on a reference that is no branch and depends on the file alone.

        `text` gets the secrets that it must not hold. Returns the address and the reference that git fetches it from.
        Raises `Refused` where the host takes no such reference.
        """

    async def commit_config(self, checkout: Checkout, text: str, message: str) -> str:
        """Commit a `.troop.toml` that Troop made itself on top of the checkout's commit; the new commit's full name.

        No patch may touch that file: it decides what runs. Raises as `commit`.
        """
