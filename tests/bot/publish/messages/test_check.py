"""When the check run is green, and what it says."""

import pytest

from bot.publish.messages.check import check
from bot.records import Ending, Execution, NotCompared, OwnTests, OwnTestsReport, Report
from tests.bot.sample import report

PASSED = Execution(ending=Ending.EXITED, exit_code=0)
WINS = ((True, True, True, None), (True, True, False, True), (True, False, False, None))
LOSES_ONE = ((True, True, False, None), (True, False, False, True), (True, False, False, None))
JUDGED = OwnTestsReport(
    command=("pytest",), base=OwnTests(execution=PASSED), candidates=((0, OwnTests(execution=PASSED)),)
)


def counted(own: OwnTestsReport | None = JUDGED, **options: object) -> Report:
    made = report(**options)  # type: ignore[arg-type]
    return made.model_copy(update={"verdict": made.verdict.model_copy(update={"own_tests": own})})


def test_it_is_green_for_a_winner_that_passes_all_and_was_judged() -> None:
    said = check(counted(), 0, "https://troop.example.com/runs/7")
    assert said.passes
    assert said.title == "Candidate 1 of 3 passes 3 of 3 tests, 1 its own"
    assert "| ➜ **1** |" in said.summary
    assert "| _base commit_ |" in said.text
    assert said.page == "https://troop.example.com/runs/7"


@pytest.mark.parametrize(
    ("made", "candidate"),
    [
        (counted(), 1),  # a person chose another one
        (counted(cells=LOSES_ONE), 0),
        (counted(None), 0),
        (counted(OwnTestsReport(not_compared=NotCompared.NO_COMMAND)), 0),
        (counted(OwnTestsReport(command=("pytest",), not_compared=NotCompared.SANDBOX_FAILED)), 0),
        (counted(winner=None), 0),
        (counted(base=(True, True, True, True)), 0),  # no test reproduces the bug
    ],
    ids=["another", "fails one", "not asked", "no command", "not run", "nobody won", "no vote"],
)
def test_it_is_neutral_otherwise(made: Report, candidate: int) -> None:
    assert not check(made, candidate).passes
