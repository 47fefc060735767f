"""Vote matrices as lines of `matrices.jsonl`, the form that `bot.evaluation.selectors.recorded` reads. Pure."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bot.records import Ballot


@dataclass(frozen=True)
class Row:
    """One candidate."""

    size: int  # characters
    passes: str  # a 0 or 1 for each test
    solves: bool
    breaks: bool | None = None  # tests or documented examples of the repository; None: nobody looked


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
            }
            for row in candidates
        ],
        "test_copies": list(copies),
        "passes_on_stub": on_stub,
    }
    return json.dumps(found)


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
        )
        for i in kept
    ]
    samples = [place for place, i in enumerate(kept) for _ in range(ballot.candidates[i].samples)]
    copies = [max(1, len(authors)) for authors in ballot.authors] or [1] * len(ballot.tests)
    return line(task, samples, rows, copies, "".join("10"[passes is False] for passes in ballot.base))
