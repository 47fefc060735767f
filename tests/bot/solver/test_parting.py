"""Which two behaviours remain, and what an answer decides."""

import pytest

from bot.records import Option, Outcome, Report, Rule
from bot.solver.ballot import Count
from bot.solver.parting import decided, two_behaviours
from bot.solver.stages.probing import noted_calls, probing
from tests.bot.sample import GOOD, OTHER, WRONG, fix, report

APART = ((True, False), (False, True))


def counted(made: Report) -> Count:
    return Count(made.verdict.ballot, made.verdict.standings)


def two(cells: tuple[tuple[bool | None, ...], ...] = APART, **more: object) -> Report:
    return report((GOOD, WRONG, OTHER)[: len(cells)], cells, (False,) * len(cells[0]), winner=None, **more)  # type: ignore[arg-type]


def test_two_that_each_pass_what_the_other_fails() -> None:
    found = two_behaviours(counted(two()))
    assert found is not None
    assert dict(zip(found.candidates, found.tests, strict=True)) == {0: 0, 1: 1}


@pytest.mark.parametrize(
    "cells",
    [
        ((True, True), (False, True)),  # one passes all that the other passes
        ((True, False), (True, False)),  # one behaviour
        ((False, False), (False, False)),
        ((True, False, False), (False, True, False), (False, False, True)),  # three
        ((True, None), (None, True)),  # not known
    ],
)
def test_what_is_no_question(cells: tuple[tuple[bool | None, ...], ...]) -> None:
    assert two_behaviours(counted(two(cells))) is None


def test_more_attempts_that_behave_alike_leave_no_question() -> None:
    cells = ((True, True, False), (False, False, True), (True, True, False))
    assert two_behaviours(counted(two(cells))) is None


def test_what_breaks_tests_or_is_disqualified_does_not_remain() -> None:
    assert two_behaviours(counted(two(disqualified={1: "changes conftest.py"}))) is None


@pytest.mark.parametrize("option", list(Option))
def test_the_answer_decides(option: Option) -> None:
    made = two()
    parting = two_behaviours(counted(made))
    assert parting is not None
    asked = made.model_copy(update={"verdict": made.verdict.model_copy(update={"parting": parting})})
    settled = decided(asked, option, "ann").verdict
    place = int(option is Option.B)
    assert (settled.outcome, settled.winner) == (Outcome.SOLVED, parting.candidates[place])
    assert settled.choice is not None
    assert settled.choice.rule is Rule.ANSWERED
    assert settled.answered is not None
    assert settled.answered.test == parting.tests[place]
    assert settled.ballot.struck == (parting.tests[1 - place],)
    assert settled.ballot.voting == (parting.tests[place],)
    assert settled.standings[0].candidate == settled.winner


def test_only_what_asks_is_answered() -> None:
    with pytest.raises(ValueError, match="asks nothing"):
        decided(two(), Option.A, "ann")


def test_the_order_of_candidates_does_not_matter() -> None:
    forth = two_behaviours(counted(two()))
    back = two_behaviours(counted(report((fix("return 1"), GOOD), APART[::-1], (False, False), winner=None)))
    assert forth is not None
    assert back is not None
    assert {forth.tests, forth.tests[::-1]} == {back.tests, back.tests[::-1]}


def test_probes_are_python_alone_and_read_only_what_they_printed() -> None:
    made = two().verdict.ballot.tests[0]
    assert probing(made) is not None
    assert probing(made.model_copy(update={"path": "test.sh"})) is None
    assert probing(made.model_copy(update={"text": "def ("})) is None
    output = 'noise\ntroop-probe ["f(1)", "2"]\ntroop-probe nonsense\ntroop-probe ["f(1)", "3"]\ntroop-probe [1, 2]\n'
    assert noted_calls(output) == {"f(1)": "2"}
