"""What the selection shows the model of the count: the tests that tell something, and what they print. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.llm.conversation import shortened
from bot.records import Ballot, Ending, Execution, OwnTestsReport, Patch, Standing
from bot.solver.comparison import mended

_MOST = 10  # tests whose text is shown
_LINES = 40  # of one test's output on one candidate
_SHORT = 300  # characters of the changed lines of a patch in short form
_CALLS = 12  # on which twins differ
_WHOLE = 2_000  # characters of the diff of a twin that is shown whole at first


@dataclass(frozen=True)
class Detail:
    """How much is shown, in characters. Where the window is too small, less is."""

    outputs: int = 1_500  # of one test on one candidate; 0: none
    texts: int = 6_000  # of one test
    shared: bool = True  # whether the text of tests that all candidates pass is shown
    twins: int = 6_000  # of all twins' diffs that are shown whole


# In which order the window's shortage is met: outputs, tests that all pass, then (by the caller) files, then texts.
LEVELS = (Detail(), Detail(outputs=400, twins=0), Detail(outputs=0, shared=False, twins=0))
LAST = (
    Detail(outputs=0, texts=1_500, shared=False, twins=0),
    Detail(outputs=0, texts=400, shared=False, twins=0),
)


def name_of(test: int) -> str:
    """How models and people know the test with that index: `T1`, `T2`, ..."""
    return f"T{test + 1}"


def telling(ballot: Ballot, candidates: Sequence[int]) -> tuple[int, ...]:
    """The voting tests that at least one of the candidates passes, those that tell them apart first.

    A test that fails on all of them tells nothing.
    """
    passed = {t: [ballot.cells[c][t] is True for c in candidates] for t in ballot.voting}
    return tuple(sorted((t for t, row in passed.items() if any(row)), key=lambda t: (all(passed[t]), t)))


def tests_shown(
    ballot: Ballot, candidates: Sequence[int], outputs: Mapping[tuple[int, int], Execution], detail: Detail
) -> dict[str, object]:
    """The values of the template. `outputs`: by candidate and test. Candidates have numbers from 1, in order."""
    numbers = {c: number for number, c in enumerate(candidates, 1)}
    tests: list[dict[str, object]] = []
    unshown = []
    for t in telling(ballot, candidates):
        row = {numbers[c]: ballot.cells[c][t] for c in candidates}
        passes, fails = (", ".join(str(n) for n, cell in row.items() if cell is said) for said in (True, False))
        if len(tests) == _MOST or not (fails or detail.shared):
            unshown.append(f"{name_of(t)} (passed by {passes}" + (f", failed by {fails})" if fails else ")"))
            continue
        printed = [
            {
                "number": numbers[c],
                "status": outputs[c, t].status,
                "text": outputs[c, t].excerpt(_LINES, detail.outputs),
            }
            for c in candidates
            if detail.outputs and ballot.cells[c][t] is False and (c, t) in outputs
        ]
        text = shortened(ballot.tests[t].text, detail.texts)
        tests.append({"name": name_of(t), "text": text, "passes": passes, "fails": fails, "outputs": printed})
    shown = len(tests) + len(unshown)
    return {"telling": tests, "unshown": unshown, "useless": len(ballot.voting) - shown}


def own_tests_in_short(own: OwnTestsReport | None, candidate: int) -> str:
    """How the repository's own tests went on the candidate, in a word or two; "" where that is not known."""
    after = own.on(candidate) if own is not None and own.compared else None
    if after is None or after.execution.ending is Ending.UNAVAILABLE:
        return ""
    words = "fail only as before" if after.failures is not None else after.execution.status
    words = "pass" if after.execution.passed else words
    better = len(mended(own, candidate))
    return f"{words}; mends {better}" if better else words


def twins_shown(patches: Sequence[Patch], room: int) -> list[tuple[str, bool]]:
    """Each patch as it is shown beside one that behaves alike, and whether nothing of its change is left out.

    Whole diffs while they are short and fit `room` characters, then changed lines alone, the first of them.
    """
    shown = []
    for patch in patches:
        if len(patch.diff) <= min(_WHOLE, room):
            room -= len(patch.diff)
            shown.append((patch.diff, True))
            continue
        lines = [line for line in patch.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        text = "\n".join(filter(None, lines))
        cut = len(text) > _SHORT
        shown.append((f"{text[:_SHORT].rstrip()}\n..." if cut else text, not cut))
    return shown


def apart_in_words(ballot: Ballot, numbers: Mapping[int, int]) -> str:
    """A line for each call that candidates with these numbers answer differently though they pass the same tests."""
    said = []
    for one in ballot.differentials:
        for place, call in enumerate(one.calls):
            by: dict[str, list[int]] = {}
            for candidate, answers in zip(one.candidates, one.answers, strict=True):
                if candidate in numbers:
                    by.setdefault(answers[place], []).append(numbers[candidate])
            if len(by) > 1:
                found = (f"candidate {', '.join(map(str, sorted(who)))}: {answer}" for answer, who in by.items())
                said.append(f"{call} -- {'; '.join(found)}")
    return "\n".join(said[:_CALLS])


def count_in_words(ballot: Ballot, standings: Sequence[Standing], numbers: Mapping[int, int]) -> str:
    """`candidate 1 passes 3 of 3, candidate 2 passes 1 of 3`, of the candidates with these numbers."""
    total = len(ballot.voting)
    said = [
        f"candidate {numbers[s.candidate]} passes {ballot.passed(s.candidate)} of {total}"
        for s in standings
        if s.candidate in numbers
    ]
    return ", ".join(said)
