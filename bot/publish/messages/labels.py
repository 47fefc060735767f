"""The labels that tell an issue's state: `troop` -> `troop: running` -> `troop: done` or `troop: failed`."""

from bot.lifecycle import ACTIVE, RunState
from bot.records import Record


class Labels(Record):
    """All built from the one that people put on the issue."""

    wanted: str = "troop"

    @property
    def running(self) -> str:
        return f"{self.wanted}: running"

    @property
    def done(self) -> str:
        return f"{self.wanted}: done"

    @property
    def failed(self) -> str:
        return f"{self.wanted}: failed"

    @property
    def known(self) -> tuple[str, ...]:
        """Of which an issue has one at most."""
        return (self.wanted, self.running, self.done, self.failed)

    def of(self, state: RunState) -> str:
        """The label of a run in that state; "" for none: what never began, or was stopped, leaves no mark."""
        if state in ACTIVE:
            return self.running
        match state:
            case RunState.SOLVED | RunState.ABSTAINED:
                return self.done
            case RunState.FAILED | RunState.PARKED:
                return self.failed
            case _:
                return ""
