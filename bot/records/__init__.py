"""The records that the packages exchange: frozen, JSON-serialisable, with derived numbers as properties.

Every record validates at construction, so what is read back from the database, a webhook or a model is either a
well-formed record or a `pydantic.ValidationError`. Change one with `record.model_copy(update=...)`.
"""

from bot.records.ballot import Ballot, Candidate, Differential, External
from bot.records.build import Build
from bot.records.bundle import Bundle, bundle_of
from bot.records.check_run import CheckRun
from bot.records.checks import Check, CheckState
from bot.records.description import Description, RegressionTest
from bot.records.environment import Environment, Service, TestConfig
from bot.records.execution import Ending, Execution, Results, SandboxJob, Test
from bot.records.issue import Feedback, Issue, IssueComment, IssueState
from bot.records.judgement import Act, Judgement
from bot.records.price import Price, Speed, money
from bot.records.queue import NOT_WRITTEN, Again, ClaimedCommand, ClaimedRun, Command, CommandName, Option, Trigger
from bot.records.record import Record
from bot.records.repository import (
    Bounds,
    Checkout,
    Context,
    FileChange,
    Patch,
    SourceFile,
    StoredFile,
    Submodule,
    Summary,
    by_path,
)
from bot.records.revision import BranchRule, Cause, PullState, Remark, Review, ReviewComment, Revision
from bot.records.stopping import StopName, Stopped, StopRule
from bot.records.survey import Fault, Obstacle
from bot.records.trajectory import FinishReason, Message, ModelCall, Reply, Trajectory, TrajectoryEnd, Usage
from bot.records.vote import (
    Abstention,
    Answered,
    Choice,
    Documented,
    Doubt,
    NotCompared,
    NoWinner,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Parting,
    Repeated,
    Report,
    Rule,
    Standing,
    Struck,
    Verdict,
)

__all__ = [
    "NOT_WRITTEN",
    "Abstention",
    "Act",
    "Again",
    "Answered",
    "Ballot",
    "Bounds",
    "BranchRule",
    "Build",
    "Bundle",
    "Candidate",
    "Cause",
    "Check",
    "CheckRun",
    "CheckState",
    "Checkout",
    "Choice",
    "ClaimedCommand",
    "ClaimedRun",
    "Command",
    "CommandName",
    "Context",
    "Description",
    "Differential",
    "Documented",
    "Doubt",
    "Ending",
    "Environment",
    "Execution",
    "External",
    "Fault",
    "Feedback",
    "FileChange",
    "FinishReason",
    "Issue",
    "IssueComment",
    "IssueState",
    "Judgement",
    "Message",
    "ModelCall",
    "NoWinner",
    "NotCompared",
    "Obstacle",
    "Option",
    "Outcome",
    "OwnTests",
    "OwnTestsReport",
    "Parting",
    "Patch",
    "Price",
    "PullState",
    "Record",
    "RegressionTest",
    "Remark",
    "Repeated",
    "Reply",
    "Report",
    "Results",
    "Review",
    "ReviewComment",
    "Revision",
    "Rule",
    "SandboxJob",
    "Service",
    "SourceFile",
    "Speed",
    "Standing",
    "StopName",
    "StopRule",
    "Stopped",
    "StoredFile",
    "Struck",
    "Submodule",
    "Summary",
    "Test",
    "TestConfig",
    "Trajectory",
    "TrajectoryEnd",
    "Trigger",
    "Usage",
    "Verdict",
    "bundle_of",
    "by_path",
    "money",
]
