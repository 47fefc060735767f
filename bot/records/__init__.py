"""The nouns that the parts exchange: frozen, JSON-serialisable, with derived numbers as properties.

Every record validates at construction, so what is read back from the database, a webhook or a model is either a
well-formed record or a `pydantic.ValidationError`. Change one with `record.model_copy(update=...)`.
"""

from bot.records.execution import Ending, Execution, SandboxJob, Test
from bot.records.issue import Issue, IssueComment, IssueState
from bot.records.queue import ClaimedCommand, ClaimedRun, Command, CommandName
from bot.records.record import Record
from bot.records.repository import Checkout, Context, FileChange, Patch, SourceFile, Summary, by_path
from bot.records.trajectory import FinishReason, Message, ModelCall, Reply, Trajectory, TrajectoryEnd, Usage
from bot.records.vote import Ballot, Candidate, Outcome, OwnTests, OwnTestsReport, Report, Standing, Verdict

__all__ = [
    "Ballot",
    "Candidate",
    "Checkout",
    "ClaimedCommand",
    "ClaimedRun",
    "Command",
    "CommandName",
    "Context",
    "Ending",
    "Execution",
    "FileChange",
    "FinishReason",
    "Issue",
    "IssueComment",
    "IssueState",
    "Message",
    "ModelCall",
    "Outcome",
    "OwnTests",
    "OwnTestsReport",
    "Patch",
    "Record",
    "Reply",
    "Report",
    "SandboxJob",
    "SourceFile",
    "Standing",
    "Summary",
    "Test",
    "Trajectory",
    "TrajectoryEnd",
    "Usage",
    "Verdict",
    "by_path",
]
