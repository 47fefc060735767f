"""Rules by which fewer attempts are made."""

from typing import get_args

import click
import pytest

from bot.cli.main import cli
from bot.records import StopName, StopRule
from bot.settings import SolverSettings
from bot.solver.stopping import ALL, SURE, Seen, Stopping, seen, stopping, with_rule
from tests.bot.sample import report
from tests.bot.solver.ballots import ballot


@pytest.mark.parametrize(
    ("rule", "most", "looks"),
    [
        (StopRule.NONE, 20, [20]),
        (StopRule.SHORT_M, 20, [20]),
        (StopRule.POSTERIOR, 5, [5]),
        (StopRule.POSTERIOR, 40, [8, 16, 32, 40]),
        (StopRule.FIRST_FINISH, 10, [4, 8, 10]),
        (StopRule.CONSENSUS, 8, [4, 8]),
        (StopRule.DISCOVERY, 10, [4, 8, 10]),
    ],
)
def test_when_a_rule_looks(rule: StopRule, most: int, looks: list[int]) -> None:
    assert list(Stopping(rule, 1).looks(most)) == looks


@pytest.mark.parametrize(
    ("stop", "found", "enough"),
    [
        (ALL, Seen(9, 9, 0.99), False),
        (Stopping(StopRule.POSTERIOR, 0.8), Seen(1, 1, 0.8), True),
        (Stopping(StopRule.POSTERIOR, 0.8), Seen(1, 9, 0.79), False),
        (Stopping(StopRule.FIRST_FINISH), Seen(1, 1, 0.1), True),
        (Stopping(StopRule.FIRST_FINISH), Seen(), False),
        (Stopping(StopRule.CONSENSUS, 6), Seen(1, 6, 0.1), True),
        (Stopping(StopRule.CONSENSUS, 6), Seen(1, 5, 0.9), False),
        (Stopping(StopRule.CONSENSUS, 6), Seen(0, 60, 0.9), False),
        (Stopping(StopRule.SHORT_M, 3), Seen(9, 9, 0.99), False),
    ],
)
def test_what_is_enough(stop: Stopping, found: Seen, enough: bool) -> None:
    assert stop.enough(found, 8, 64) is enough


@pytest.mark.parametrize(
    ("found", "done", "enough"),
    [
        (Seen(votes=2, apart=True, new=0.5), 4, True),  # a test speaks for one and against another
        (Seen(votes=2, new=0.5), 4, False),  # no attempt fails it: it may pass on anything
        (Seen(apart=True, new=0.5), 8, False),
        (Seen(new=0.0), 12, True),  # each patch was made twice: nothing new is to be expected
        (Seen(new=0.0), 8, False),  # too few to say so
        (Seen(new=0.01), 12, False),  # 0.52 new patches of 52 attempts
        (Seen(new=0.01), 16, True),  # 0.48 of 48
        (Seen(), 60, False),  # no patch yet
    ],
)
def test_discovery_ends_with_a_telling_test_or_where_nothing_new_comes(found: Seen, done: int, enough: bool) -> None:
    rule = Stopping(StopRule.DISCOVERY, 0.5)
    assert rule.enough(found, done, 64) is enough
    assert rule.stopped(found, done, 64).value == found.votes * found.apart


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ALL),
        ({"stop_at": 0.9}, Stopping(StopRule.POSTERIOR, 0.9)),
        ({"stop": "posterior"}, Stopping(StopRule.POSTERIOR, SURE)),
        ({"stop": "none", "stop_at": 0.9}, ALL),
        ({"stop": "first-finish"}, Stopping(StopRule.FIRST_FINISH)),
        ({"stop": "discovery"}, Stopping(StopRule.DISCOVERY, 0.5)),
        ({"stop": "discovery", "stop_new": 2}, Stopping(StopRule.DISCOVERY, 2)),
        ({"stop": "consensus", "stop_alike": 3}, Stopping(StopRule.CONSENSUS, 3)),
        ({"stop": "short-m", "stop_first": 5}, Stopping(StopRule.SHORT_M, 5)),
    ],
)
def test_the_rule_of_the_settings(settings: dict[str, object], expected: Stopping) -> None:
    assert stopping(SolverSettings.model_validate(settings)) == expected


def test_a_rule_is_named_with_its_number() -> None:
    assert Stopping(StopRule.CONSENSUS, 6).words == "consensus 6"
    assert Stopping(StopRule.POSTERIOR, 0.8).words == "posterior 0.8"
    assert Stopping(StopRule.FIRST_FINISH).words == "first-finish"


def test_posterior_asks_for_no_more_than_is_usual() -> None:
    assert with_rule(SolverSettings(stop_at=0.9), "posterior").stop_at == SURE
    assert with_rule(SolverSettings(stop_at=0.7), "posterior").stop_at == 0.7
    assert with_rule(SolverSettings(stop_at=0.9), "consensus").stop_at == 0.9


def test_what_a_count_shows() -> None:
    ballot = report().verdict.ballot
    found = seen(ballot)
    assert found.votes >= 1
    assert 0 < found.sure < 1
    assert seen(ballot, 2.0).sure > found.sure
    unheard = ballot.model_copy(update={"base": (True,) * len(ballot.tests)})
    assert seen(unheard) == Seen(new=found.new)


@pytest.mark.parametrize(
    ("rows", "attempts", "apart", "new"),
    [
        (["++", "+."], [[0, 1], [2]], True, 1 / 3),
        (["++", "++"], [[0, 1], [2]], False, 1 / 3),  # what fails on none tells nothing
        (["++"], [[0, 1, 2]], False, 0.0),
        (["++", "+."], [[0], [1]], True, 1.0),
    ],
)
def test_what_tells_attempts_apart_and_how_many_patches_are_new(
    rows: list[str], attempts: list[list[int]], apart: bool, new: float
) -> None:
    found = seen(ballot("..", *rows, trajectories=attempts))
    assert (found.apart, found.new) == (apart, pytest.approx(new))


def test_a_test_that_could_not_run_on_another_does_not_tell_it_apart() -> None:
    assert not seen(ballot(".", "+", "?", trajectories=[[0, 1], [2, 3]])).apart


def test_a_disqualified_patch_is_nothing_to_be_told_from() -> None:
    both = [[0, 1], [2, 3]]
    assert seen(ballot(".", "+", ".", trajectories=both)).apart
    assert not seen(ballot(".", "+", ".", trajectories=both, disqualified={1: "changes what judges it"})).apart


def test_the_rules_are_called_the_same_everywhere() -> None:
    names = list(get_args(StopName))
    option = next(option for option in cli.commands["solve"].params if option.name == "stop")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == names
    assert sorted(names) == sorted(rule.value for rule in StopRule)
