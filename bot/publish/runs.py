"""What commands and reviews may ask of the store, and do to it."""

from typing import Protocol

from bot.lifecycle import RunState
from bot.records import Act, Again, Record, Report


class RunNow(Protocol):
    """A run as the store shows it (`bot.store.queries.RunInfo`)."""

    @property
    def id(self) -> int: ...
    @property
    def sender(self) -> str: ...
    @property
    def state(self) -> RunState: ...
    @property
    def progress(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def pull_request_url(self) -> str | None: ...


class Counted(Record):
    """A run that ended with a count."""

    run_id: int
    report: Report


class Runs(Protocol):
    """What commands may ask of the store, and do to it."""

    async def newest(self, repository: str, issue_number: int) -> RunNow | None:
        """The newest run of the issue."""

    async def newest_counted(self, repository: str, issue_number: int) -> Counted | None:
        """The newest run of the issue that has a count."""

    async def report(self, run_id: int) -> Report | None:
        """The count of that run, if it has one."""

    async def started_by(self, command_id: int) -> int | None:
        """The run that the command started, when it was executed before."""

    async def start_again(self, run_id: int, again: Again) -> int | None:
        """A new run for the issue of an ended one; its id, or None where it starts once the present one has stopped.

        The same command starts one run, however often it is executed. Raises `RetryRefused`.
        """

    async def revise(self, run_id: int, again: Again) -> int | None:
        """A run that revises a pull request of the run's issue; its id, or None where it waits for the active one, or
        was asked for before. Raises `RetryRefused`."""

    async def judge(self, repository: str, pull: int, act: Act, by: str) -> bool:
        """Keep what was done with the pull request; whether it was kept."""

    async def judge_choice(self, repository: str, issue_number: int, candidate: int, by: str, url: str) -> bool:
        """Keep that somebody chose the candidate, by its index in the ballot, of the newest count of the issue; whether
        it was kept. `url`: of the pull request that shows it."""

    async def stop_revision(self, repository: str, pull: int, reason: str, *, asked_at: float) -> bool:
        """Ask the active run that revises the pull request to stop, as `request_stop`; False where there is none."""

    async def request_stop(self, run_id: int, reason: str, *, asked_at: float) -> bool:
        """Ask an active run to stop, as was wished at that moment; whether it still can be."""


class FollowedUp(Record):
    """The result: a line for the log, and in `started` the id of a new run that is to be enqueued."""

    note: str
    started: int | None = None
