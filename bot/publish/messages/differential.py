"""What candidates that no test tells apart answer to other calls, in words."""

import operator

from bot.publish.messages.words import cut
from bot.records import Standing, Verdict
from bot.sanitize import inline


def answers(verdict: Verdict, winner: Standing) -> str:
    """How those with the winner's results answer calls that tests make, and others like them."""
    one = verdict.ballot.differential(winner.candidate)
    if one is None:
        return ""
    who = f"{'Both' if len(one.candidates) == 2 else f'{len(one.candidates):,}'} candidates with these results"
    if not one.calls:
        return f"{who} answer all {one.asked:,} calls alike that tests make, and others like them."
    mine = one.of(winner.candidate)
    samples = [verdict.ballot.candidates[c].samples for c in one.candidates]
    agree = (n * sum(map(operator.eq, mine, row)) for n, row in zip(samples, one.answers, strict=True))
    share = sum(agree) / max(1, sum(samples) * len(one.calls))
    calls = f"{one.apart:,} of {one.asked:,} calls that tests make, and others like them"
    return f"{who} differ on {calls}, where {share:.0%} of their attempts answer as it does."


def answers_otherwise(verdict: Verdict, candidate: int) -> str:
    """The smallest call that it answers otherwise than the best candidate that passes the same tests; "" where none."""
    one = verdict.ballot.differential(candidate)
    if one is None:
        return ""
    best = min(one.candidates, key=verdict.number)
    for call, answer, other in zip(one.calls, one.of(candidate), one.of(best), strict=True):
        if answer != other:
            call, answer, other = (inline(cut(text, 80)) for text in (call, answer, other))
            return f"on {call}, which no test checks: {answer}, and candidate {verdict.number(best)} {other}"
    return ""
