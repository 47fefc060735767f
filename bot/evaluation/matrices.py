"""Vote matrices as lines of `matrices.jsonl`, the form that `bot.evaluation.selectors.recorded` reads. Pure."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bot.records import Ballot, Differential


@dataclass(frozen=True)
class Row:
    """One candidate."""

    size: int  # characters
    passes: str  # a 0 or 1 for each test
    solves: bool
    breaks: bool | None = None  # tests or documented examples of the repository; None: nobody looked
    answers: tuple[str, ...] = ()  # to calls like those of the tests; none where they were not made


def line(
    task: str,
    samples: Sequence[int],
    candidates: Sequence[Row],
    copies: Sequence[int],
    on_stub: str,
    logprobs: Sequence[float | None] = (),
) -> str:
    """One task. `samples`: the candidate of each; `copies`: how often each test was written; `on_stub`: whether it
    passes on the base commit, or on a function without a body."""
    found = {
        "task": task,
        "samples": list(samples),
        **({"logprobs": list(logprobs)} if logprobs else {}),
        "candidates": [
            {
                "size": row.size,
                "passes": row.passes,
                "solves": row.solves,
                **({} if row.breaks is None else {"breaks": row.breaks}),
                **({"answers": numbers} if any(one.answers for one in candidates) else {}),
            }
            for row, numbers in zip(candidates, _numbered([row.answers for row in candidates]), strict=True)
        ],
        "test_copies": list(copies),
        "passes_on_stub": on_stub,
    }
    return json.dumps(found)


def _answers(found: Differential, candidate: int) -> tuple[str, ...]:
    """What the candidate answers; "" where it was not asked, since it behaves otherwise."""
    return found.of(candidate) if candidate in found.candidates else ("",) * len(found.calls)


def _numbered(answers: Sequence[Sequence[str]]) -> list[list[int]]:
    """For each candidate a number for each call that some answer differently: equal ones for equal answers.

    Of one that answers nothing, numbers that no other has.
    """
    asked = max(map(len, answers), default=0)
    columns = [[row[i] if row else f"\0{c}" for c, row in enumerate(answers)] for i in range(asked)]
    apart = [[list(dict.fromkeys(column)).index(one) for one in column] for column in columns if len(set(column)) > 1]
    return [list(row) for row in zip(*apart, strict=True)] or [[] for _ in answers]


def line_of(task: str, ballot: Ballot, solves: Sequence[bool], broken: Collection[int] | None = None) -> str:
    """The matrix of a run; "" where no attempt ended in a patch that may win.

    `broken`: the candidates that break tests or documented examples of the repository, where that is known.

    A test that could not be run on a candidate counts as failed there; one that could not be run on the base commit
    has no vote. Candidates that changed what judges them and those that the selection wrote are left out. That a test
    says less of the patch that it was written with is not in this form.
    """
    kept = [i for i, one in enumerate(ballot.candidates) if one.samples and not one.disqualified]
    if not kept:
        return ""
    rows = [
        Row(
            ballot.candidates[i].patch.size,
            "".join("01"[cell is True] for cell in ballot.cells[i]),
            solves[i],
            None if broken is None else i in broken,
            tuple(answer for one in ballot.differentials for answer in _answers(one, i)),
        )
        for i in kept
    ]
    samples = [place for place, i in enumerate(kept) for _ in range(ballot.candidates[i].samples)]
    copies = [max(1, len(authors)) for authors in ballot.authors] or [1] * len(ballot.tests)
    return line(task, samples, rows, copies, "".join("10"[passes is False] for passes in ballot.base))
