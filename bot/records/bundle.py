"""What anybody needs to count a run again."""

from typing import Literal

from pydantic import Field

from bot.records.environment import Environment
from bot.records.record import Record
from bot.records.vote import Report, Verdict
from bot.version import VERSION

SCHEMA_VERSION: Literal[2] = 2  # from 2 on: `environment.config`, documented examples, flaky and unsteady tests


class Bundle(Record):
    """A count with its candidates, its tests and where they ran. The verdict is as the export of a run has it."""

    kind: Literal["troop bundle"] = "troop bundle"
    schema_version: Literal[1, 2] = SCHEMA_VERSION
    troop: str  # version that wrote it
    issue: int = Field(ge=0)  # its number; 0 for none
    model: str
    seed: int  # of the sampling
    base_commit: str
    reviewed_commit: str = ""  # of a revision: what the candidates change
    environment: Environment
    verdict: Verdict

    @property
    def parent(self) -> str:
        """The commit that the candidates change."""
        return self.reviewed_commit or self.base_commit


def bundle_of(report: Report) -> Bundle:
    """The bundle of a run's count."""
    return Bundle(
        troop=VERSION,
        issue=report.issue.number,
        model=report.model,
        seed=report.seed,
        base_commit=report.base_commit,
        reviewed_commit=report.reviewed_commit,
        environment=report.environment,
        verdict=report.verdict,
    )
