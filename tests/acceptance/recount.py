"""What fewer trajectories would have come to: coverage by the unbiased estimator, selection by counting again. Pure."""

import random
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from bot.evaluation.coverage import coverage
from bot.records import Ballot
from bot.solver.ballot import count, credible
from tests.acceptance.solving import ballot_of

DRAWS = 20  # of k trajectories, for each bug and k


def part(ballot: Ballot, chosen: Collection[int]) -> tuple[Ballot, list[int]]:
    """The ballot as it would be with these trajectories alone, and which candidates are left."""
    left = set(chosen)
    rows = [i for i, candidate in enumerate(ballot.candidates) if left & set(candidate.trajectories)]
    columns = [t for t, authors in enumerate(ballot.authors) if left & set(authors)]
    place = {t: i for i, t in enumerate(columns)}
    small = Ballot(
        candidates=tuple(
            ballot.candidates[i].model_copy(
                update={
                    "trajectories": tuple(t for t in ballot.candidates[i].trajectories if t in left),
                    "tests": tuple(place[t] for t in ballot.candidates[i].tests if t in place),
                }
            )
            for i in rows
        ),
        tests=tuple(ballot.tests[t] for t in columns),
        base=tuple(ballot.base[t] for t in columns),
        cells=tuple(tuple(ballot.cells[i][t] for t in columns) for i in rows),
        authors=tuple(tuple(a for a in ballot.authors[t] if a in left) for t in columns),
    )
    return small, rows


def winner(ballot: Ballot) -> int | None:
    """The candidate that the count puts first, or None where it abstains. No model is asked."""
    able = credible(count(ballot), ballot)
    return able[0].candidate if able else None


def selected(record: dict[str, Any], k: int, draws: int = DRAWS) -> tuple[float, float]:
    """How often k of the trajectories would have ended in a pull request that solves the bug, and how often any of them
    would have solved it."""
    ballot, samples = ballot_of(record), record["samples"]
    rng = random.Random(f"{record['id']}/{k}")
    hits, covered = [], []
    for _ in range(1 if k >= samples else draws):
        small, rows = part(ballot, rng.sample(range(samples), min(k, samples)))
        chosen = winner(small)
        hits.append(chosen is not None and record["candidates"][rows[chosen]]["solves"])
        covered.append(any(record["candidates"][row]["solves"] for row in rows))
    return float(np.mean(hits)), float(np.mean(covered))


def solving(record: dict[str, Any]) -> int:
    """How many trajectories ended in a candidate that solves."""
    return sum(len(c["trajectories"]) for c in record["candidates"] if c["solves"])


def at(records: Sequence[dict[str, Any]], ks: Sequence[int], draws: int = DRAWS) -> list[dict[str, Any]]:
    """For each k: `k`, `coverage` and `selected`, as shares of the bugs, and `precision`, how often the same draws
    select a solving candidate where they have one; None where none has. k beyond the samples is left out."""
    counts = [(record["samples"], solving(record)) for record in records]
    rows: list[dict[str, Any]] = []
    for k in ks:
        if any(k > samples for samples, _ in counts):
            continue
        right, covered = np.mean([selected(record, k, draws) for record in records], axis=0)
        share = float(right / covered) if covered else None
        rows.append({"k": k, "coverage": coverage(counts, k), "selected": float(right), "precision": share})
    return rows
