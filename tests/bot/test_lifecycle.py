import itertools
import re

import pytest

from bot import lifecycle
from bot.lifecycle import ACTIVE, TRANSITIONS, RunState, allowed

ENDS = set(RunState) - ACTIVE


def diagram() -> set[tuple[str, str]]:
    """The arrows that are drawn, less the one into the first state."""
    return set(re.findall(r"^    (\w+) --> (\w+)", lifecycle.__doc__ or "", re.MULTILINE))


def test_every_state_has_its_row():
    assert set(TRANSITIONS) == set(RunState)


def test_every_arrow_of_the_diagram_is_allowed():
    drawn = diagram()
    assert len(drawn) > 20
    for old, new in drawn:
        assert allowed(RunState(old), RunState(new)), f"{old} --> {new} is drawn, and not allowed"


def test_what_is_allowed_and_not_drawn_is_only_the_hard_way_out():
    table = {(old.value, new.value) for old, news in TRANSITIONS.items() for new in news}
    undrawn = {(old, new) for old, new in table - diagram() if new != "parked"}
    assert undrawn == {("publishing", "stopped")}  # for whoever stops a run by hand; the store does not


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


def test_every_active_state_has_a_way_to_each_bad_end():
    for state in ACTIVE:
        assert {RunState.FAILED, RunState.STOPPED, RunState.PARKED} <= TRANSITIONS[state]
