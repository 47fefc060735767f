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
    checkout --> parked
    context --> parked
    trajectories --> parked
    matrix --> parked
    selection --> parked
    publishing --> parked
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


STAGES = (
    RunState.QUEUED,
    RunState.CHECKOUT,
    RunState.CONTEXT,
    RunState.TRAJECTORIES,
    RunState.MATRIX,
    RunState.SELECTION,
    RunState.PUBLISHING,
)  # in their order
ACTIVE = frozenset(STAGES)
# Publishing is not interrupted: a half-made pull request would be nobody's.
STOPPABLE = ACTIVE - {RunState.PUBLISHING}

# Going back to an earlier stage is not in the table: a resumed run replays its journal without changing its state.
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    state: frozenset({RunState.FAILED, RunState.PARKED, *STAGES[i + 1 : i + 2]}) for i, state in enumerate(STAGES)
} | {state: frozenset() for state in RunState if state not in ACTIVE}
for _state in STOPPABLE:
    TRANSITIONS[_state] |= {RunState.STOPPED}
TRANSITIONS[RunState.QUEUED] |= {RunState.REFUSED}
TRANSITIONS[RunState.PUBLISHING] |= {RunState.SOLVED, RunState.ABSTAINED}


def allowed(old: RunState, new: RunState) -> bool:
    """Whether a run may go from `old` to `new`."""
    return new in TRANSITIONS[old]
