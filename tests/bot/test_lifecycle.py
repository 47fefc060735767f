import itertools
import re

import pytest

from bot import lifecycle
from bot.lifecycle import ACTIVE, STOPPABLE, TRANSITIONS, RunState, allowed

ENDS = set(RunState) - ACTIVE


def diagram() -> set[tuple[str, str]]:
    """The arrows that are drawn, less the one into the first state."""
    return set(re.findall(r"^    (\w+) --> (\w+)", lifecycle.__doc__ or "", re.MULTILINE))


def test_every_state_has_its_row():
    assert set(TRANSITIONS) == set(RunState)


def test_the_diagram_and_the_table_are_the_same():
    assert diagram() == {(old.value, new.value) for old, news in TRANSITIONS.items() for new in news}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_an_end_is_an_end(end: RunState):
    assert not TRANSITIONS[end]


def test_stages_are_passed_one_by_one_and_never_back():
    stages = [state for state in RunState if state in ACTIVE]
    for old, new in itertools.product(stages, stages):
        assert allowed(old, new) == (stages.index(new) == stages.index(old) + 1)


def test_only_publishing_ends_well_and_only_a_queued_run_is_refused():
    assert {old for old in RunState if allowed(old, RunState.SOLVED)} == {RunState.PUBLISHING}
    assert {old for old in RunState if allowed(old, RunState.ABSTAINED)} == {RunState.PUBLISHING}
    assert {old for old in RunState if allowed(old, RunState.REFUSED)} == {RunState.QUEUED}


def test_every_active_state_has_a_way_to_each_bad_end_but_publishing_is_not_stopped():
    for state in ACTIVE:
        assert {RunState.FAILED, RunState.PARKED} <= TRANSITIONS[state]
        assert allowed(state, RunState.STOPPED) == (state in STOPPABLE) == (state is not RunState.PUBLISHING)
