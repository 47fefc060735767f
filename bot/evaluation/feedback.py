"""What judgements of a repository's winners changed. Pure.

Their shift is read on judgements that it did not see: each is left out in turn, so that what is printed does not
flatter.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bot.evaluation.calibration import calibration_error, errors_by_chance, reliability
from bot.records import Judgement, Record
from bot.solver.confidence import labels, probability, shift_for

_PART = 10  # judgements at least behind each part of the calibration error


class Fit(Record):
    """How the probabilities fare with one shift. `error`: the calibration error; `chance`: that of true probabilities
    where there are no more judgements; `brier`: the mean square of probability minus outcome, where always saying a
    half has 0.25."""

    shift: float
    error: float
    chance: float
    brier: float
    threshold: float  # probability by the count, without a shift, at which a winner is published; 0: all are


class Learned(Record):
    """The judgements of one repository, and the fit without and with them."""

    repository: str
    acts: dict[str, int]
    right: int
    known: int  # of which it is known, and the count told something
    expected: float  # right winners among these, by the count and the operator's shift
    before: Fit | None  # None: nothing is known yet
    after: Fit | None


def learned(repository: str, judgements: Sequence[Judgement], prior: float, wrong_at_most: float) -> Learned:
    """`prior`: the operator's shift. `wrong_at_most`: as of the settings."""
    odds, right = labels(judgements)
    before = [probability(one, prior) for one in odds]
    apart = [shift_for([*odds[:i], *odds[i + 1 :]], [*right[:i], *right[i + 1 :]], prior) for i in range(len(odds))]
    after = [probability(one, shift) for one, shift in zip(odds, apart, strict=True)]
    return Learned(
        repository=repository,
        acts=dict(Counter(one.act.value for one in judgements)),
        right=sum(right),
        known=len(right),
        expected=sum(before),
        before=_fit(prior, before, right, wrong_at_most) if right else None,
        after=_fit(shift_for(odds, right, prior), after, right, wrong_at_most) if right else None,
    )


def _fit(shift: float, expected: Sequence[float], right: Sequence[bool], wrong_at_most: float) -> Fit:
    told, outcome = np.array(expected), np.array(right, dtype=float)
    bins = max(1, min(10, len(right) // _PART))
    by_chance = errors_by_chance(told, np.arange(len(told)), np.random.default_rng(0), bins)
    return Fit(
        shift=shift,
        error=calibration_error(reliability(told, outcome, bins)),
        chance=float(by_chance.mean()),
        brier=float(((told - outcome) ** 2).mean()),
        threshold=_threshold(wrong_at_most, shift),
    )


def _threshold(wrong_at_most: float, shift: float) -> float:
    if not 0.0 < wrong_at_most < 1.0:
        return 1.0 - wrong_at_most
    return probability(math.log((1.0 - wrong_at_most) / wrong_at_most), -shift)


def words(found: Learned) -> str:
    """For people, in a few lines."""
    acts = ", ".join(f"{times} {act}" for act, times in sorted(found.acts.items()))
    lines = [f"{found.repository}: {acts}"]
    if found.before is None or found.after is None:
        return "\n".join([*lines, "  no winner is known to be right or wrong yet"])
    lines.append(f"  winners: {found.right} of {found.known} right, {found.expected:.1f} expected by the count")
    for name, fit in (("before", found.before), ("after", found.after)):
        lines.append(
            f"  {name:6s} shift {fit.shift:+.2f}, calibration error {fit.error:.3f} ({fit.chance:.3f} by chance "
            f"alone), Brier score {fit.brier:.3f}, published from {fit.threshold:.0%} by the count"
        )
    return "\n".join(lines)
