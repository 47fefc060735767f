"""The count: what the vote matrix says of each candidate, and whether any of them is credible. Pure.

Shown are the *votes*: tests that fail on the untouched repository and pass on the candidate, a trajectory's own test
counted apart. Ranked is by `scores`: the votes of a behaviour, times a power of the number of samples that behave
alike. Tests of a model err together, so the most votes alone often go to a candidate that shares the tests' mistake;
samples that agree without having seen each other seldom do. The two constants were tuned, and
cross-validated, on the matrices that `tests/bench/bench_selection.py` reads; that score and `typical` have this shape
was decided on the same matrices.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bot.records import Ballot, Ending, OwnTestsReport, Standing

Array = npt.NDArray[np.float64]

ALIKE = 4.0  # a sample that shares 9 of 10 votes counts as 0.9 ** ALIKE of one that shares all
SUPPORT = 0.6  # the power of the support; 0 would be plain votes, 1 would be CodeT (arXiv 2207.10397)
ALONE = "only the test of its own trajectory passes on it"


@dataclass(frozen=True)
class Count:
    """The vote matrix with its count."""

    ballot: Ballot
    standings: tuple[Standing, ...]  # best first
    own_tests: OwnTestsReport | None = None  # None: not asked for


def scores(passes: Array, samples: Array, votes: Array, *, alike: float = ALIKE, support: float = SUPPORT) -> Array:
    """What ranks the candidates, `[candidates]`.

    Args:
        passes: `[candidates, voting tests]`, 1 where the test passes.
        samples: `[candidates]`, how many samples ended in the candidate; 0 keeps it from supporting others.
        votes: `[candidates]`, the votes of its behaviour.
    """
    both = passes @ passes.T  # [candidates, candidates]
    each = passes.sum(axis=1)
    either = each[:, None] + each[None, :] - both
    similarity = np.where(either > 0, both / np.maximum(either, 1), 1.0)  # Jaccard
    backers: Array = similarity**alike @ samples
    return np.asarray(np.round(votes * backers**support, 9))


def typical(sizes: Array, samples: Array, behaviour: npt.NDArray[np.int64]) -> Array:
    """How far each patch is from the usual length among those that behave the same, `[candidates]`.

    In natural logarithms. Of many patches that pass just the same tests the shortest is more often than not one
    that left something out; the one of middle length is right more often.
    """
    logs = np.log1p(sizes)
    distance = np.zeros(len(logs))
    for members in (np.flatnonzero(behaviour == b) for b in np.unique(behaviour)):
        weights = np.maximum(samples[members], 1).astype(int)
        distance[members] = np.abs(logs[members] - np.median(np.repeat(logs[members], weights)))
    return np.asarray(np.round(distance, 9))


def order(score: Array, cluster: Array, sizes: Array, samples: Array, behaviour: npt.NDArray[np.int64]) -> list[int]:
    """Candidate indices, best first: by score; then the larger cluster; then the shorter patch.

    Behaviours compare by their most typical patch, and within one behaviour the most typical comes first.
    """
    distance = typical(sizes, samples, behaviour)
    face: dict[int, tuple[float, float, int]] = {}  # of each behaviour: its most typical patch
    for i, b in enumerate(behaviour.tolist()):
        face[b] = min(face.get(b, (np.inf, np.inf, 0)), (float(distance[i]), float(sizes[i]), i))
    return sorted(
        range(len(score)),
        key=lambda i: (-score[i], -cluster[i], *face[int(behaviour[i])][1:], distance[i], sizes[i], i),
    )


def count(ballot: Ballot, own: OwnTestsReport | None = None) -> tuple[Standing, ...]:
    """The standings, best first: without regressions before those with, the disqualified last.

    `own`: the repository's own tests, where they were run already.
    """
    n = len(ballot.candidates)
    if n == 0:
        return ()
    voting = np.array(ballot.fails_on_base, dtype=bool)
    cells = np.array([[2 if cell is None else int(cell) for cell in row] for row in ballot.cells], dtype=np.int8)
    cells = cells.reshape(n, len(ballot.tests))
    passes = ((cells == 1) & voting).astype(np.float64)
    alone = np.array([_own(ballot, i) for i in range(n)], dtype=bool).reshape(n, len(ballot.tests))
    votes = (passes * ~alone).sum(axis=1)
    fair = np.array([not candidate.disqualified for candidate in ballot.candidates])
    samples = np.array([candidate.samples for candidate in ballot.candidates], dtype=np.float64)
    sizes = np.array([candidate.patch.size for candidate in ballot.candidates], dtype=np.float64)
    _, behaviour = np.unique(cells, axis=0, return_inverse=True)
    behaviour = behaviour.reshape(n).astype(np.int64)
    # Whoever touched a judge neither has votes nor lends weight: it could stuff the ballot.
    behaviour = np.where(fair, behaviour, behaviour.max() + 1 + np.arange(n))
    cluster = np.bincount(behaviour, weights=samples)[behaviour].astype(np.float64)
    shared = np.zeros(behaviour.max() + 1)
    np.maximum.at(shared, behaviour, votes)  # one behaviour, one evidence: a good test must not cost its author
    weight = samples * fair
    score = scores(passes * fair[:, None], weight, shared[behaviour] * fair)
    standings = []
    for i in order(score, cluster, sizes, samples, behaviour):
        candidate = ballot.candidates[i]
        standings.append(
            Standing(
                candidate=i,
                votes=int(votes[i]) if fair[i] else 0,
                own_votes=int((passes[i] * alone[i]).sum()) if fair[i] else 0,
                cluster=int(cluster[i]),
                size=candidate.patch.size,
                score=float(score[i]),
                regressions=regressions(own, i, candidate.patch.paths),
                disqualified=candidate.disqualified,
            )
        )
    return tuple(sorted(standings, key=lambda s: (bool(s.disqualified), bool(s.regressions))))


def _own(ballot: Ballot, index: int) -> list[bool]:
    """For each test, whether nobody but the candidate's only trajectory wrote it: then its pass says little.

    Two trajectories that end in one patch are witnesses for each other: the test of one is no test of the other's own.
    """
    candidate = ballot.candidates[index]
    if len(candidate.trajectories) != 1:
        return [False] * len(ballot.tests)
    if ballot.authors:
        return [authors == candidate.trajectories for authors in ballot.authors]
    others = {t for i, other in enumerate(ballot.candidates) if i != index for t in other.tests}
    return [t in candidate.tests and t not in others for t in range(len(ballot.tests))]


def regressions(own: OwnTestsReport | None, candidate: int, paths: Collection[str] = ()) -> tuple[str, ...]:
    """The repository's tests that passed on the untouched repository and fail on the candidate.

    By name where the runner names failing tests on both; else by exit code. What could not be run says nothing. Nor
    do tests in the files that the candidate itself brings, `paths`: they never passed before.
    """
    after = own.on(candidate) if own is not None else None
    if own is None or own.base is None or after is None or after.execution.ending is Ending.UNAVAILABLE:
        return ()
    if own.base.failures is not None and after.failures is not None:
        before = set(own.base.failures)
        return tuple(n for n in after.failures if n not in before and n.split("::")[0] not in paths)
    if own.base.execution.passed and not after.execution.passed:
        return (f"{' '.join(own.command)}: {after.execution.status}",)
    return ()


def doubt(standing: Standing, ballot: Ballot) -> str:
    """Why the candidate is not credible, in words; nothing where it is."""
    if standing.disqualified:
        return f"it {standing.disqualified}"
    if standing.regressions:
        return f"it breaks {_counted(len(standing.regressions), 'test')} of the repository's own"
    if standing.votes:
        return ""
    if standing.own_votes:
        return "" if _single_witness(ballot) else ALONE
    return "no test that fails on the untouched repository passes on it"


def _single_witness(ballot: Ballot) -> bool:
    """Whether one trajectory is all there is, so that nobody else could have been asked."""
    seen = {t for candidate in ballot.candidates for t in candidate.trajectories}
    seen |= {t for authors in ballot.authors for t in authors}
    return len(seen) == 1 and len(ballot.candidates) == 1


def credible(standings: Sequence[Standing], ballot: Ballot) -> tuple[Standing, ...]:
    """The standings that may win, best first."""
    return tuple(standing for standing in standings if not doubt(standing, ballot))


def abstention(standings: Sequence[Standing], ballot: Ballot) -> str | None:
    """Why no candidate may win, as a sentence; None where one may."""
    if not standings:
        return "No trajectory ended with an edit that applies, so there is nothing to vote on."
    if credible(standings, ballot):
        return None
    useful = sum(ballot.fails_on_base)
    written = _counted(len(ballot.tests), "test")
    if not useful:
        ran = sum(passed is not None for passed in ballot.base)
        if not ballot.tests:
            why = "no trajectory ended with a test"
        elif not ran:
            why = "the only test could not be run" if len(ballot.tests) == 1 else f"none of the {written} could be run"
        else:
            which = "the only test" if len(ballot.tests) == 1 else f"each of the {written}"
            why = f"{which} passes on the untouched repository, or could not be run, and shows no problem"
        return f"No candidate is credible: {why}."
    doubts: dict[str, int] = {}
    for standing in standings:
        if standing.disqualified:
            words = "changed what judges it"
        elif standing.regressions:
            words = "broke tests of the repository that passed before"
        elif standing.own_votes:
            words = "passed no useful test but that of its own trajectory"
        else:
            words = "passed no test that fails on the untouched repository"
        doubts[words] = doubts.get(words, 0) + 1
    n = len(standings)
    if len(doubts) == 1:
        subject = "the only candidate" if n == 1 else f"each of the {n} candidates"
        said = f"{subject} {next(iter(doubts))}"
    else:
        said = f"of {n} candidates, " + ", ".join(f"{number} {words}" for words, number in doubts.items())
    fail = "fails" if useful == 1 else "fail"
    return f"No candidate is credible: {said} ({written}, of which {useful} {fail} on the untouched repository)."


def distinct_first(standings: Sequence[Standing], ballot: Ballot, number: int) -> tuple[Standing, ...]:
    """The best `number` standings to tell apart: the best of each behaviour first, then more of the same ones."""
    seen: set[tuple[bool | None, ...]] = set()
    heads: list[Standing] = []
    rest: list[Standing] = []
    for standing in standings:
        row = ballot.cells[standing.candidate]
        (rest if row in seen else heads).append(standing)
        seen.add(row)
    return tuple([*heads, *rest][:number])


def clear_lead(standings: Sequence[Standing], ballot: Ballot) -> bool:
    """Whether the first of these credible standings needs no more tests to be told from the others.

    Its behaviour has twice the score of any other and no other has more votes, at least three samples behave so,
    and half of those samples are this very patch. On the bench's matrices a lead of that score and size was right in
    about 4 of 5 cases, of those in which any candidate was.
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


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
