"""The labels that tell an issue's state: `troop` -> `troop: running` -> `troop: done`, `: no fix`,
`: question` or `: failed`."""

from bot.lifecycle import ACTIVE, RunState
from bot.records import Record


class Labels(Record):
    """The labels, each made from the one that people put on an issue."""

    wanted: str = "troop"

    @property
    def running(self) -> str:
        return f"{self.wanted}: running"

    @property
    def done(self) -> str:
        return f"{self.wanted}: done"

    @property
    def abstained(self) -> str:
        return f"{self.wanted}: no fix"

    @property
    def question(self) -> str:
        return f"{self.wanted}: question"

    @property
    def failed(self) -> str:
        return f"{self.wanted}: failed"

    @property
    def paused(self) -> str:
        """Of people: the run of an issue that has it does not start. Not one of `known`, which Troop takes off."""
        return f"{self.wanted}: paused"

    @property
    def known(self) -> tuple[str, ...]:
        """All of them; an issue has at most one."""
        return (self.wanted, self.running, self.done, self.abstained, self.question, self.failed)

    def of(self, state: RunState) -> str:
        """The label of a run in that state; "" for none: a run that never began, or was stopped, has none."""
        if state in ACTIVE:
            return self.running
        match state:
            case RunState.SOLVED:
                return self.done
            case RunState.ABSTAINED:
                return self.abstained
            case RunState.FAILED | RunState.PARKED:
                return self.failed
            case _:
                return ""
