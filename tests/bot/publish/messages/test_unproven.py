"""Which candidates lost votes to the guard is said, with why and what to do."""

import io
from typing import Any

import pytest
from rich.console import Console

from bot.cli.console import print_report
from bot.cli.report_object import as_object
from bot.publish.messages.count import remarks, warnings
from bot.publish.messages.unproven import reasons, unproven
from bot.records import Ballot, Ending, Execution, Outcome, Report, Verdict
from bot.solver.ballot import count
from tests.bot.sample import report
from tests.bot.solver.ballots import ballot
from tests.fakes import FAILED, PASSED


def _with(*whys: str) -> Ballot:
    """Two candidates: the first passes all tests, the second ends well on each and proves nothing."""
    cut = tuple(Execution(ending=Ending.CUT_SHORT, exit_code=0, unproven=why) for why in whys)
    of_cut = tuple(range(2, 2 + len(cut)))
    b = ballot("." * len(whys), "+" * len(whys), "." * len(whys))
    return b.model_copy(
        update={
            "executions": (PASSED, FAILED, *cut),
            "base_executions": (1,) * len(whys),
            "cell_executions": ((0,) * len(whys), of_cut),
        }
    )


def _report(b: Ballot) -> Report:
    verdict = Verdict(outcome=Outcome.ABSTAINED, winner=None, standings=tuple(count(b)), ballot=b)
    return report().model_copy(update={"verdict": verdict})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("sys._getframe", "`inspect.stack`"),
        ("gc.get_objects", "all objects"),
        ("a value that agrees with all that are near", "equals whatever"),
        ("replaced math.isclose", "replaces what the test judges by"),
        ("replaced [x](https://e.example) @all", "replaces what the test judges by"),
        ("", "ended the process"),
        ("some later reason", "ended the process"),
    ],
)
def test_each_reason_has_words_of_ours(said: str, shown: str) -> None:
    b = _with(said)
    assert reasons(b, 0) == {}
    [(words, number)] = reasons(b, 1).items()
    assert shown in words
    assert number == 1
    assert "e.example" not in unproven(_report(b).verdict)


def test_it_is_said_where_people_look() -> None:
    told = _report(_with("sys.settrace", "sys.settrace", "open"))
    number = told.verdict.number(1)
    words = unproven(told.verdict)
    assert f"candidate {number}: 3 tests prove nothing" in words
    assert "/troop use N" in words
    assert "prove nothing" in warnings(told)
    assert "it traces the test" in remarks(told, told.verdict.standing(1))
    into = io.StringIO()
    print_report(told, Console(file=into, width=1000))
    assert "/troop use N" in into.getvalue()
    candidates: Any = as_object(told)["candidates"]
    assert [one["unproven"] for one in candidates] == [{}, reasons(told.verdict.ballot, 1)]
    assert unproven(_report(ballot(".", "+")).verdict) == ""
