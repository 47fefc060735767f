"""The probability that the winner is right: what raises it, and the threshold that an operator sets."""

import pytest

from bot.records import Act
from bot.solver.ballot import count
from bot.solver.confidence import SLOPE, confidence, features, labels, log_odds, odds_of, probability
from tests.bot.evaluation.test_feedback import judgement
from tests.bot.solver.ballots import ballot


def sure(alike: float, samples: float, passed: float, voting: float) -> float:
    return probability(log_odds(features(alike, samples, passed, voting)))


def test_agreement_and_votes_raise_it() -> None:
    assert sure(1, 64, 1, 4) < sure(8, 64, 1, 4) < sure(32, 64, 1, 4) < sure(64, 64, 4, 4)
    assert sure(32, 64, 1, 8) < sure(32, 64, 8, 8)
    assert 0.0 < sure(1, 64, 1, 64) < 0.1
    assert 0.9 < sure(64, 64, 8, 8) < 1.0


def test_it_is_of_the_winners_behaviour() -> None:
    b = ballot("...", "+++", "+++", "+..", trajectories=[[0, 1, 2], [3], [4]])
    first, *_, last = count(b)
    assert confidence(first, b) == probability(SLOPE * log_odds(features(4, 5, 3, 3)))
    assert confidence(last, b) == probability(SLOPE * log_odds(features(1, 5, 1, 3)))


def test_the_count_of_a_run_is_believed_less_than_that_of_a_function() -> None:
    b = ballot("...", "+++", "+++", "+..", trajectories=[[0, 1, 2], [3], [4]])
    first, *_, last = count(b)
    assert 0.5 < confidence(first, b) < sure(4, 5, 3, 3)
    assert sure(1, 5, 1, 3) < confidence(last, b) < 0.5
    odds = odds_of(first, b)
    assert labels([judgement(1, Act.MERGED, odds)]) == ([SLOPE * odds], [True]), (
        "what is kept does not depend on how much of it counts"
    )


def test_a_shift_moves_the_log_odds() -> None:
    odds = log_odds(features(3, 6, 2, 4))
    plain, moved = probability(odds), probability(odds, 1.0)
    assert moved / (1 - moved) == pytest.approx(plain / (1 - plain) * 2.718281828)


def test_no_count_breaks_it() -> None:
    assert 0.0 < sure(0, 0, 0, 0) < 1.0
    assert 0.0 < sure(1, 0, 1, 0) < 1.0, "a patch of the selection's own counts as no sample"
