"""Rules by which fewer attempts are made."""

import pytest

from bot.records import StopRule
from bot.settings import SolverSettings
from bot.solver.stopping import ALL, SURE, Seen, Stopping, seen, stopping, with_rule
from tests.bot.sample import report


@pytest.mark.parametrize(
    ("rule", "most", "looks"),
    [
        (StopRule.NONE, 20, [20]),
        (StopRule.SHORT_M, 20, [20]),
        (StopRule.POSTERIOR, 5, [5]),
        (StopRule.POSTERIOR, 40, [8, 16, 32, 40]),
        (StopRule.FIRST_FINISH, 10, [4, 8, 10]),
        (StopRule.CONSENSUS, 8, [4, 8]),
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
    assert stop.enough(found) is enough


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ALL),
        ({"stop_at": 0.9}, Stopping(StopRule.POSTERIOR, 0.9)),
        ({"stop": "posterior"}, Stopping(StopRule.POSTERIOR, SURE)),
        ({"stop": "none", "stop_at": 0.9}, ALL),
        ({"stop": "first-finish"}, Stopping(StopRule.FIRST_FINISH)),
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
    assert seen(unheard) == Seen()
