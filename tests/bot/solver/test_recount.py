from typing import Any

import pytest

from bot.records import Ballot, Rule, Verdict
from bot.solver.ballot import Count, count
from bot.solver.recount import Recount, recount
from tests.bot.sample import WRONG, report

VERDICT = report().verdict
ABSTAINED = report((WRONG,), cells=((False, False),), base=(False, True), winner=None).verdict


def again(verdict: Verdict, **changes: Any) -> Recount:
    """The comparison with the same count, but for changes of the ballot that is found."""
    ballot = verdict.ballot.model_copy(update=changes)
    return recount(verdict, Count(ballot, count(ballot, verdict.own_tests), verdict.own_tests))


def claiming(**changes: Any) -> Verdict:
    return VERDICT.model_copy(update=changes)


def whats(found: Recount) -> list[str]:
    return [one.what for one in found.differences]


@pytest.mark.parametrize("verdict", [VERDICT, ABSTAINED], ids=["solved", "abstained"])
def test_the_same_count_is_the_same(verdict: Verdict) -> None:
    found = again(verdict)
    assert found.same, found
    assert (found.claimed, found.found) == (None if verdict.winner is None else 1,) * 2
    assert found.cells == len(verdict.ballot.tests) * (1 + len(verdict.ballot.candidates))


def test_each_cell_that_differs_is_named() -> None:
    ballot = VERDICT.ballot
    winner = VERDICT.winner
    assert winner is not None
    cells = [list(row) for row in ballot.cells]
    cells[winner][0] = not cells[winner][0]
    found = again(VERDICT, cells=tuple(tuple(row) for row in cells), base=(None, *ballot.base[1:]))
    assert not found.same
    assert whats(found)[:2] == ["T1 on the base commit", "T1 on candidate 1"]
    assert (found.differences[0].found, sum(one.is_cell for one in found.differences)) == ("not run", 2)


def test_what_is_claimed_of_the_count_is_checked() -> None:
    first, *rest = VERDICT.standings
    inflated = claiming(standings=(first.model_copy(update={"votes": first.votes + 5}), *rest))
    assert whats(again(inflated)) == ["votes of candidate 1"]
    broken = claiming(standings=(first.model_copy(update={"regressions": ("t::a",)}), *rest))
    assert whats(again(broken)) == ["tests or examples of the repository that candidate 1 breaks"]


def _with(ballot: Ballot, index: int, **changes: Any) -> tuple[Any, ...]:
    one = ballot.candidates[index].model_copy(update=changes)
    return tuple(one if i == index else candidate for i, candidate in enumerate(ballot.candidates))


def test_a_winner_that_may_not_win_is_none() -> None:
    assert VERDICT.winner is not None
    found = again(VERDICT, candidates=_with(VERDICT.ballot, VERDICT.winner, disqualified="changes conftest.py"))
    assert "disqualification of candidate 1" in whats(found)
    assert not found.same_winner
    other = _with(
        VERDICT.ballot, VERDICT.winner, patch=VERDICT.ballot.candidates[0].patch.model_copy(update={"diff": ""})
    )
    assert "diff of candidate 1" in whats(again(VERDICT, candidates=other))


@pytest.mark.parametrize(("rule", "same"), [(Rule.ONLY_CREDIBLE, False), (Rule.NO_CHOICE, False), (Rule.MODEL, True)])
def test_another_winner_needs_a_choice_and_to_be_credible(rule: Rule, same: bool) -> None:
    assert VERDICT.choice is not None
    second = VERDICT.standings[1].candidate
    claim = claiming(winner=second, choice=VERDICT.choice.model_copy(update={"rule": rule}))
    found = again(claim)
    assert found.same_winner is same
    assert found.rule == rule.value
