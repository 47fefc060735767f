"""The states of a run in words, the same in comments, on the console and on the pages."""

from bot.lifecycle import RunState

_WORDS = {
    RunState.QUEUED: "waiting for a worker",
    RunState.CHECKOUT: "preparing the repository",
    RunState.CONTEXT: "reading files",
    RunState.TRAJECTORIES: "sampling fixes",
    RunState.MATRIX: "running tests on candidates",
    RunState.SELECTION: "choosing among the best",
    RunState.PUBLISHING: "publishing",
    RunState.SOLVED: "draft ready",
    RunState.ABSTAINED: "no credible fix",
    RunState.FAILED: "failed",
    RunState.STOPPED: "stopped",
    RunState.REFUSED: "not started",
    RunState.PARKED: "parked",
}


def in_words(state: RunState) -> str:
    """`sampling fixes`, `draft ready`."""
    return _WORDS[state]


def progress(state: RunState, done: int = 0, total: int = 0, note: str = "") -> str:
    """`sampling fixes (12 of 64), 9 with an edit`."""
    count = f" ({done:,} of {total:,})" if total > 0 else ""
    return f"{_WORDS[state]}{count}{f', {note}' if note else ''}"
