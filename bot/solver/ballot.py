"""The count: what the vote matrix says of each candidate, and which of them are credible. Pure.

People see the *votes*: tests that fail on the base commit and pass on the candidate, a trajectory's own test counted
apart. The order is by `scores`: the votes of a behaviour, times a power of the number of samples that behave alike,
and less where none of its patches has the usual length. The tests of one model share mistakes, so plain votes often
favour a candidate with the same mistake; independent samples that agree are wrong less often. The three constants were
tuned, and cross-validated, on the matrices that `tests/bench/bench_selection.py` reads; the form of the score and of
`typical` was chosen on the same matrices.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bot.records import Abstention, Ballot, Doubt, NoWinner, OwnTestsReport, Repeated, Standing
from bot.solver.comparison import mended, regressions

Array = npt.NDArray[np.float64]

ALIKE = 4.0  # a sample that shares 9 of 10 votes counts as 0.9 ** ALIKE of one that shares all
SUPPORT = 0.6  # the power of the support; 0 would be plain votes, 1 would be CodeT (arXiv 2207.10397)
LENGTH = 1.0  # the power of how far a length is from the usual one: at 1 a patch of twice that length counts half

_ROWS = 512  # of the similarities at once, so that memory does not grow with the square of the candidates

_MISSING = re.compile(
    r"ModuleNotFoundError: No module named '[\w.]+'|Cannot find (?:module|package) '[^'\n]{1,100}'"
    r"|cannot load such file -- \S+"
)


@dataclass(frozen=True)
class Count:
    """The vote matrix with its count."""

    ballot: Ballot
    standings: tuple[Standing, ...]  # best first
    own_tests: OwnTestsReport | None = None  # None: not asked for


def scores(passes: Array, samples: Array, votes: Array, *, alike: float = ALIKE, support: float = SUPPORT) -> Array:
    """Votes and agreement in one number, `[candidates]`.

    Args:
        passes: `[candidates, voting tests]`, 1 where the test passes.
        samples: `[candidates]`, how many samples ended in the candidate; 0 keeps it from supporting others.
        votes: `[candidates]`, the votes of its behaviour.
    """
    rows, row = np.unique(passes, axis=0, return_inverse=True)
    row = row.reshape(len(passes))
    weights = np.bincount(row, weights=samples, minlength=len(rows))
    each = rows.sum(axis=1)
    backers = np.zeros(len(rows))
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        both = rows[part] @ rows.T  # [part, rows]
        either = each[part, None] + each[None, :] - both
        similarity = np.where(either > 0, both / np.maximum(either, 1), 1.0)  # Jaccard
        backers[part] = similarity**alike @ weights
    return np.asarray(np.round(votes * backers[row] ** support, 9))


def typical(sizes: Array, samples: Array, votes: Array) -> Array:
    """How far each patch's length is from the usual one, the median of what tests speak for, `[candidates]`.

    In natural logarithms; each sample weighs as much as it has votes. Of many patches that pass the same tests, the
    shortest usually leaves something out; one of median length is right more often.
    """
    logs = np.log1p(sizes)
    weights = np.maximum(samples, 1) * (votes if votes.any() else 1.0)
    places = np.argsort(logs, kind="stable")
    below = np.cumsum(weights[places])
    middle = [int(np.searchsorted(below, below[-1] / 2, side)) for side in ("left", "right")]
    usual = logs[places[np.minimum(middle, len(logs) - 1)]].mean()
    return np.asarray(np.round(np.abs(logs - usual), 9))


def weighed(score: Array, distance: Array, behaviour: npt.NDArray[np.int64], length: float = LENGTH) -> Array:
    """The scores of `scores`, less where the most typical patch of a behaviour is not of the usual length."""
    nearest = np.full(int(behaviour.max()) + 1, np.inf)
    np.minimum.at(nearest, behaviour, distance)
    return np.asarray(np.round(score * np.exp(-length * nearest[behaviour]), 9))


def agreement(answers: Sequence[Sequence[object]], samples: Array) -> Array:
    """How far the others' samples answer as each candidate does, the share of them over all calls, `[candidates]`.

    Args:
        answers: `[candidates, calls]`, whatever can be compared.
        samples: `[candidates]`, how many each stands for.
    """
    shares = np.zeros(len(samples))
    for column in zip(*answers, strict=True):
        backing: Counter[object] = Counter()
        for answer, weight in zip(column, samples, strict=True):
            backing[answer] += weight
        shares += [backing[answer] for answer in column]
    calls = len(answers[0]) if len(answers) else 0
    return np.asarray(np.round(shares / max(1.0, samples.sum() * calls), 9))


def order(
    score: Array,
    cluster: Array,
    sizes: Array,
    distance: Array,
    behaviour: npt.NDArray[np.int64],
    agreed: Array | None = None,
) -> list[int]:
    """Candidate indices, best first: by score; then the larger cluster; then the shorter patch.

    Behaviours compare by their most typical patch (`distance`: by `typical`). Within one behaviour that comes first
    with whose answers most agree (`agreed`: by `agreement`), then the most typical.
    """
    alike = np.zeros(len(score)) if agreed is None else agreed
    face: dict[int, tuple[float, float, int]] = {}  # of each behaviour: its most typical patch
    for i, b in enumerate(behaviour.tolist()):
        face[b] = min(face.get(b, (np.inf, np.inf, 0)), (float(distance[i]), float(sizes[i]), i))
    return sorted(
        range(len(score)),
        key=lambda i: (-score[i], -cluster[i], *face[int(behaviour[i])][1:], -alike[i], distance[i], sizes[i], i),
    )


def count(ballot: Ballot, own: OwnTestsReport | None = None) -> tuple[Standing, ...]:
    """The standings, best first: without regressions before those with, the disqualified last. Among equal scores those
    come first that mend more of the repository's own tests.

    `own`: the repository's own tests, once they were run.
    """
    n = len(ballot.candidates)
    if n == 0:
        return ()
    voting = np.array(ballot.fails_on_base, dtype=bool)
    cells = np.array([[2 if cell is None else int(cell) for cell in row] for row in ballot.cells], dtype=np.int8)
    cells = cells.reshape(n, len(ballot.tests))
    passes = ((cells == 1) & voting).astype(np.float64)
    alone = np.array([ballot.own(i) for i in range(n)], dtype=bool).reshape(n, len(ballot.tests))
    fair = np.array([not candidate.disqualified for candidate in ballot.candidates])
    samples = np.array([candidate.samples for candidate in ballot.candidates], dtype=np.float64)
    sizes = np.array([candidate.patch.size for candidate in ballot.candidates], dtype=np.float64)
    _, behaviour = np.unique(cells, axis=0, return_inverse=True)
    behaviour = behaviour.reshape(n).astype(np.int64)
    # A disqualified candidate has no votes and supports no other: it may have changed what counts them.
    behaviour = np.where(fair, behaviour, behaviour.max() + 1 + np.arange(n))
    cluster = np.bincount(behaviour, weights=samples)[behaviour].astype(np.float64)
    # One behaviour has one number of votes, so that writing a good test is no disadvantage: a test is a vote if it is
    # not one member's alone, and where two behave alike, each is another to the other.
    telling = np.zeros((int(behaviour.max()) + 1, len(ballot.tests)))
    np.maximum.at(telling, behaviour, passes * ~alone)
    shared = telling[behaviour]
    votes = shared.sum(axis=1) * fair
    distance = typical(sizes, samples, votes)
    score = weighed(scores(passes * fair[:, None], samples * fair, votes), distance, behaviour)
    standings = []
    for i in order(score, cluster, sizes, distance, behaviour, _agreed(ballot, samples)):
        candidate = ballot.candidates[i]
        standings.append(
            Standing(
                candidate=i,
                votes=int(votes[i]),
                own_votes=int((passes[i] - shared[i]).sum()) if fair[i] else 0,
                cluster=int(cluster[i]),
                size=candidate.patch.size,
                score=float(score[i]),
                regressions=regressions(own, i, candidate.patch.paths),
                mended=mended(own, i),
                disqualified=candidate.disqualified,
            )
        )
    return tuple(sorted(standings, key=lambda s: (bool(s.disqualified), bool(s.regressions), -s.score, -len(s.mended))))


def _agreed(ballot: Ballot, samples: Array) -> Array:
    """By `agreement`, `[candidates]`; 0 where nobody asked."""
    found = np.zeros(len(samples))
    for one in ballot.differentials:
        which = list(one.candidates)
        found[which] = agreement(one.answers, samples[which])
    return found


def doubt(standing: Standing, ballot: Ballot) -> Doubt | None:
    """Why the candidate is not credible; None where it is."""
    if standing.disqualified:
        return Doubt.DISQUALIFIED
    if standing.regressions:
        return Doubt.REGRESSIONS
    if standing.votes:
        return None
    if standing.own_votes:
        return None if _single_witness(ballot) else Doubt.OWN_TEST_ONLY
    return Doubt.NO_VOTE


def _single_witness(ballot: Ballot) -> bool:
    """Whether one trajectory is all there is, so that no other could have written a test."""
    seen = {t for candidate in ballot.candidates for t in candidate.trajectories}
    seen |= {t for authors in ballot.authors for t in authors}
    return len(seen) == 1 and len(ballot.candidates) == 1


def credible(standings: Sequence[Standing], ballot: Ballot) -> tuple[Standing, ...]:
    """The standings that may win, best first."""
    return tuple(standing for standing in standings if doubt(standing, ballot) is None)


def abstention(standings: Sequence[Standing], ballot: Ballot) -> Abstention | None:
    """Why no candidate may win; None where one may."""
    if not standings:
        return Abstention(cause=NoWinner.NO_CANDIDATE)
    doubts = Counter(doubt(standing, ballot) for standing in standings)
    if None in doubts:
        return None
    found = tuple((why, times) for why, times in doubts.items() if why is not None)
    if ballot.voting:
        cause = NoWinner.NOT_CREDIBLE
    elif not ballot.tests:
        cause = NoWinner.NO_TEST
    elif all(passed is None for passed in ballot.base):
        cause = NoWinner.NOTHING_RAN
    else:
        cause = NoWinner.NOT_REPRODUCED
    return Abstention(cause=cause, doubts=found, missing=missing_module(ballot))


def missing_module(ballot: Ballot) -> Repeated | None:
    """The missing module that most tests that fail on the base commit end with, where no test passes on a candidate."""
    failing = ballot.voting
    if any(cell for row in ballot.cells for cell in row) or not failing:
        return None
    causes: Counter[str] = Counter()
    for execution in filter(None, map(ballot.on_base, failing)):
        causes.update(set(_MISSING.findall(execution.output)))
    cause, times = causes.most_common(1)[0] if causes else ("", 0)
    return Repeated(text=cause, times=times, of=len(failing)) if 2 * times > len(failing) else None


def one_of_each(standings: Sequence[Standing], ballot: Ballot) -> tuple[Standing, ...]:
    """The best standing of each behaviour, in the order of the standings."""
    heads: dict[tuple[bool | None, ...], Standing] = {}
    for standing in standings:
        heads.setdefault(ballot.cells[standing.candidate], standing)
    return tuple(heads.values())


def distinct_first(standings: Sequence[Standing], ballot: Ballot, number: int) -> tuple[Standing, ...]:
    """The best `number` standings for a choice: the best of each behaviour first, then more of the same behaviours."""
    heads = one_of_each(standings, ballot)
    return (*heads, *(standing for standing in standings if standing not in heads))[:number]


def clear_lead(standings: Sequence[Standing], ballot: Ballot) -> bool:
    """Whether the first of these credible standings is so far ahead that no more tests are needed.

    Its behaviour has twice the score of any other and no other has more votes, at least three samples behave so,
    and half of those samples are this very patch. On the matrices of the benchmark such a lead was right in about
    4 of 5 cases in which any candidate was.
    """
    if len(standings) < 2:
        return True
    first = standings[0]
    row = ballot.cells[first.candidate]
    samples = ballot.candidates[first.candidate].samples
    others = [s for s in standings[1:] if ballot.cells[s.candidate] != row]
    ahead = all(first.score >= 2 * s.score and first.votes >= s.votes for s in others)
    return ahead and first.cluster >= 3 and 2 * samples >= first.cluster


def overruled(first: Standing, standings: Sequence[Standing]) -> Standing | None:
    """The credible candidate that plain votes would have chosen, where it has more votes than the first."""
    most = max(standings, key=lambda s: s.votes, default=first)
    return most if most.votes > first.votes else None
