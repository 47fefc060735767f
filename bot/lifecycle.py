"""The states of a run and the only transitions between them.

```mermaid
stateDiagram-v2
    [*] --> queued
    queued --> checkout: claimed, permission checked
    queued --> refused: no write permission
    checkout --> context
    context --> trajectories
    trajectories --> matrix
    matrix --> selection
    selection --> publishing
    publishing --> solved
    publishing --> abstained
    queued --> stopped
    checkout --> stopped
    context --> stopped
    trajectories --> stopped
    matrix --> stopped
    selection --> stopped
    checkout --> failed
    context --> failed
    trajectories --> failed
    matrix --> failed
    selection --> failed
    publishing --> failed
    queued --> failed
    queued --> parked: killed its worker three times
```
"""

import enum


class RunState(enum.StrEnum):
    """Where a run is. A killed run keeps its state; its next worker replays the journal and goes on from there."""

    QUEUED = "queued"  # stored, not yet claimed for the first time
    CHECKOUT = "checkout"  # cloning the repository
    CONTEXT = "context"  # the relevance model reads, the main model ranks
    TRAJECTORIES = "trajectories"  # test machines and edit machines sample
    MATRIX = "matrix"  # every test runs on every candidate
    SELECTION = "selection"  # the best-voted are told apart
    PUBLISHING = "publishing"  # branch, pull request, comments, labels
    SOLVED = "solved"  # a pull request is open
    ABSTAINED = "abstained"  # nothing credible; the issue has the evidence
    FAILED = "failed"  # something broke; the issue has the reason
    STOPPED = "stopped"  # somebody asked for it
    REFUSED = "refused"  # whoever asked may not
    PARKED = "parked"  # killed its worker too often; waits for a person's retry


ACTIVE = frozenset(
    {
        RunState.QUEUED,
        RunState.CHECKOUT,
        RunState.CONTEXT,
        RunState.TRAJECTORIES,
        RunState.MATRIX,
        RunState.SELECTION,
        RunState.PUBLISHING,
    }
)

_STAGES = (
    RunState.QUEUED,
    RunState.CHECKOUT,
    RunState.CONTEXT,
    RunState.TRAJECTORIES,
    RunState.MATRIX,
    RunState.SELECTION,
    RunState.PUBLISHING,
)

# Going back to an earlier stage is not in the table: a resumed run replays its journal without changing its state.
# Any active state may end as failed, stopped or parked; only the last stage ends well.
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    state: frozenset({RunState.FAILED, RunState.STOPPED, RunState.PARKED, *_STAGES[i + 1 : i + 2]})
    for i, state in enumerate(_STAGES)
} | {state: frozenset() for state in RunState if state not in ACTIVE}
TRANSITIONS[RunState.QUEUED] |= {RunState.REFUSED}
TRANSITIONS[RunState.PUBLISHING] |= {RunState.SOLVED, RunState.ABSTAINED}


def allowed(old: RunState, new: RunState) -> bool:
    """Whether a run may go from `old` to `new`."""
    return new in TRANSITIONS[old]
