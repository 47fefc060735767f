"""The tables. Migrations in `bot/store/migrations` create them; a test checks that both agree.

Times are seconds since 1970 (UTC) by the database's clock, so that workers on several machines agree about leases.
States are stored as text, so that a new one needs no change of type.
"""

from sqlalchemy import BigInteger, Index, Integer, Text, text
from sqlmodel import Field, SQLModel

from bot.lifecycle import ACTIVE
from bot.records import Trigger

_ACTIVE_SQL = "state IN ({})".format(", ".join(f"'{state.value}'" for state in sorted(ACTIVE)))
# A 64-bit number; SQLite's integers are, whatever the type is called.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class Delivery(SQLModel, table=True):
    """A webhook delivery that was accepted. A redelivery carries the same GUID and finds its row."""

    guid: str = Field(primary_key=True)
    event: str
    action: str
    decision: str  # name of the decision's class
    note: str = Field(default="", sa_type=Text)  # what was done, for the log and the status page
    job_id: str | None = None
    received_at: float


class Run(SQLModel, table=True):
    """One attempt at one issue."""

    __table_args__ = (
        Index(
            "run_one_active_per_issue",
            "repository",
            "issue_number",
            unique=True,
            sqlite_where=text(_ACTIVE_SQL),
            postgresql_where=text(_ACTIVE_SQL),
        ),
        Index("run_by_repository", "repository", "created_at"),
        Index("run_by_repository_id", "repository_id", "repository"),
        Index("run_by_issue", "repository", "issue_number"),
        Index("run_by_state", "state", "available_at"),
        Index("run_list_of_repository", "repository", "id"),
        Index("run_list_of_state", "state", "id"),
        Index("run_by_pull", "repository", "pull_number"),
    )

    id: int | None = Field(default=None, primary_key=True)
    repository: str  # owner/name, the newest that GitHub has told
    repository_id: int | None = Field(default=None, sa_type=BigInteger)  # stays when it is renamed
    issue_number: int = Field(sa_type=_NUMBER)
    installation_id: int | None = Field(default=None, sa_type=BigInteger)
    issue: str = Field(sa_type=Text)  # `records.Issue` as JSON: the labelled snapshot
    sender: str
    labelled_at: float
    state: str
    # -- the lease
    attempt: int = 0  # how often it was claimed; fences writes of earlier claims
    worker: str | None = None
    lease_until: float | None = None  # None: free, or given back
    available_at: float  # not to be claimed before
    crashes: int = 0  # leases that ran out instead of being given back
    setbacks: int = 0  # times it was given back because of an infrastructure error
    stop_reason: str | None = Field(default=None, sa_type=Text)  # somebody asked it to stop
    wanted: str | None = Field(default=None, sa_type=Text)  # `base.Wanted` as JSON: the run to start after this one
    # -- the end
    reason: str = Field(default="", sa_type=Text)  # in words, for the issue
    announce: bool = False  # the issue has not been told of the end yet
    announce_tries: int = 0
    is_notice: bool = False  # not a run: only says that the quota is used up
    pull_request_url: str | None = None
    # -- for people
    cost: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})  # in the currency of the settings
    hold: str | None = Field(default=None, sa_type=Text)  # why it may not start yet, as the issue was told
    progress: str = Field(default="", sa_type=Text)
    title: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})  # of the issue
    tokens: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})  # of all its calls
    retry_of: int | None = None  # the run that a person started again
    command_id: int | None = Field(default=None, index=True)  # by which; it starts one run, however often executed
    again: str | None = Field(default=None, sa_type=Text)  # `records.Again` as JSON: what it asks for
    asked_by: str = Field(default=Trigger.LABEL.value, sa_column_kwargs={"server_default": Trigger.LABEL.value})
    comment_id: int | None = Field(default=None, sa_type=BigInteger)  # of the comment that mentions us
    pull_number: int | None = Field(default=None, sa_type=BigInteger)  # of the pull request that it revises
    created_at: float
    updated_at: float
    finished_at: float | None = None


class ReportRow(SQLModel, table=True):
    """What a run came to. Apart from the run's row, which lists read: a report takes hundreds of pages."""

    __tablename__ = "report"

    run_id: int = Field(primary_key=True, foreign_key="run.id", sa_column_kwargs={"autoincrement": False})
    text: str = Field(sa_type=Text)  # `records.Report` as JSON


class Step(SQLModel, table=True):
    """The journal: what a run has finished."""

    run_id: int = Field(primary_key=True, foreign_key="run.id")
    key: str = Field(primary_key=True)
    payload: str = Field(sa_type=Text)  # JSON
    attempt: int  # that wrote it
    created_at: float


class CommandRow(SQLModel, table=True):
    """A `/troop` comment, or a review that asks for a revision."""

    __tablename__ = "command"
    __table_args__ = (
        Index("command_once", "source", "comment_id", unique=True),
        Index("command_by_state", "done", "available_at"),
        Index("command_by_sender", "repository", "sender", "created_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    source: str = Field(default="comment")  # what `comment_id` counts
    comment_id: int = Field(sa_type=BigInteger)
    repository: str
    repository_id: int | None = Field(default=None, sa_type=BigInteger)  # stays when the repository is renamed
    installation_id: int | None = Field(default=None, sa_type=BigInteger)
    issue_number: int = Field(sa_type=_NUMBER)
    sender: str
    command: str = Field(sa_type=Text)  # `records.Command` as JSON
    done: bool = False
    attempt: int = 0
    worker: str | None = None
    lease_until: float | None = None
    available_at: float
    note: str = Field(default="", sa_type=Text)  # how it ended
    created_at: float
    finished_at: float | None = None


class SpendingRow(SQLModel, table=True):
    """What one repository's runs cost in a day, under the name that it had then."""

    __tablename__ = "spending"

    day: str = Field(primary_key=True)  # UTC, as `2026-01-31`
    repository: str = Field(primary_key=True)
    cost: float
    runs: int = 0  # that cost something on this day for the first time


class JudgementRow(SQLModel, table=True):
    """What people made of a run's winner: `records.Judgement`."""

    __tablename__ = "judgement"

    run_id: int = Field(primary_key=True, foreign_key="run.id", sa_column_kwargs={"autoincrement": False})
    act: str
    judged_by: str
    odds: float | None = None
    candidate: int
    overruled: bool
    accepted: bool | None = None
    judged_at: float


class PauseRow(SQLModel, table=True):
    """While its one row is there, no run starts."""

    __tablename__ = "pause"

    id: int = Field(primary_key=True)
    reason: str = Field(sa_type=Text)
    paused_by: str
    paused_at: float


METADATA = SQLModel.metadata
DELIVERY, RUN, REPORT, STEP, COMMAND, SPENDING, JUDGEMENT, PAUSE = (
    METADATA.tables[name] for name in ("delivery", "run", "report", "step", "command", "spending", "judgement", "pause")
)
