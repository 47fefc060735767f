"""What an evaluation says of itself."""

import pytest

from bot.evaluation.figures import Sureness, sure_in_words


@pytest.mark.parametrize(
    ("right", "words"),
    [(0.8, "which chance alone explains"), (0.3, "which chance alone explains"), (0.9, "which is no chance")],
)
def test_a_difference_that_chance_explains_is_said_to_be_that(right: float, words: str) -> None:
    sureness = Sureness(choices=20, expected=0.55, right=right, low=0.3, high=0.8, shift=1.25)
    said = sure_in_words(sureness)
    assert f"expects 55.0% to be right; {right:.1%} are, {words} (95% of the time it leaves 30.0% to 80.0%)" in said
    assert "`TROOP_SOLVER_CONFIDENCE_SHIFT=1.25` fits this model" in said
