"""What judgements changed, read on judgements that the shift did not see."""

from datetime import UTC, datetime

import pytest

from bot.evaluation.feedback import learned, words
from bot.records import Act, Judgement


def judgement(run_id: int, act: Act, odds: float | None = 0.0) -> Judgement:
    return Judgement(
        run_id=run_id,
        repository="octo/repo",
        issue_number=run_id,
        act=act,
        by="ann",
        odds=odds,
        candidate=1,
        overruled=False,
        accepted=act.accepts,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_they_move_shift_and_threshold_and_lower_the_error_where_the_count_was_too_modest() -> None:
    acts = [Act.MERGED] * 18 + [Act.CLOSED] * 2
    found = learned("octo/repo", [judgement(i, act) for i, act in enumerate(acts)], 0.0, 0.2)
    assert (found.known, found.right, found.expected) == (20, 18, 10.0)
    assert found.before is not None
    assert found.after is not None
    assert (found.before.shift, found.before.threshold) == (0.0, pytest.approx(0.8))
    assert found.after.shift > 1.5
    assert found.after.threshold < 0.5
    assert found.after.error < found.before.error == pytest.approx(0.4)
    assert found.after.brier < found.before.brier == 0.25
    assert found.before.chance == pytest.approx(0.123, abs=0.01), "of ten coins in a part"
    assert f"error 0.400 ({found.before.chance:.3f} by chance alone)" in words(found)
    assert "winners: 18 of 20 right, 10.0 expected by the count" in words(found)


def test_each_is_read_by_a_shift_that_did_not_see_it() -> None:
    """Two that contradict each other: each is expected to be as the other was."""
    found = learned("octo/repo", [judgement(1, Act.MERGED), judgement(2, Act.REVERTED)], 0.0, 0.2)
    assert found.before is not None
    assert found.after is not None
    assert found.after.brier > found.before.brier


@pytest.mark.parametrize("wrong_at_most", [0.0, 1.0])
def test_thresholds_without_a_middle(wrong_at_most: float) -> None:
    found = learned("octo/repo", [judgement(1, Act.MERGED)], 0.0, wrong_at_most)
    assert found.after is not None
    assert found.after.threshold == 1.0 - wrong_at_most


@pytest.mark.parametrize("known", [[], [judgement(1, Act.REOPENED)], [judgement(1, Act.USED, None)]])
def test_nothing_known_changes_nothing(known: list[Judgement]) -> None:
    found = learned("octo/repo", known, 0.5, 0.2)
    assert found.after is None
    assert "no winner is known" in words(found)
