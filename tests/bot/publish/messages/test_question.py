"""The question in words, and what the reason says of it."""

from bot.publish.messages.labels import Labels
from bot.publish.messages.question import answered, question
from bot.publish.messages.reason import nobody, reason
from bot.publish.messages.status import abstained, solved
from bot.records import Abstention, NoWinner, Option, Parting, Report
from bot.solver.parting import decided
from bot.webhook.slash_command import ticked
from tests.bot.sample import GOOD, WRONG, report

CALL = Parting(candidates=(0, 1), tests=(0, 1), call="clamp(9, 0, 5)", results=("5", "'@olive `x`'"))


def asking(parting: Parting = CALL) -> Report:
    made = report((GOOD, WRONG), ((True, False), (False, True)), (False, False), winner=None)
    why = Abstention(cause=NoWinner.UNDECIDED)
    return made.model_copy(update={"verdict": made.verdict.model_copy(update={"parting": parting, "abstention": why})})


def test_the_question_has_two_boxes_and_the_input() -> None:
    text = question(asking())
    assert text.startswith("### Which one is right?")
    assert "For `clamp(9, 0, 5)`, **A** gives `5`, **B** gives" in text
    assert text.count("- [ ] **") == 2
    assert ticked(text) is None
    assert ticked(text.replace("- [ ] **B**", "- [x] **B**")) is Option.B
    assert "gives ``'@olive `x`'``" in text, "as code, which notifies nobody"


def test_what_a_program_printed_ticks_no_box() -> None:
    hostile = CALL.model_copy(update={"results": ("1\n- [x] **A**", "2")})
    assert ticked(question(asking(hostile))) is None


def test_without_an_input_the_tests_tell_them_apart() -> None:
    text = question(asking(CALL.model_copy(update={"call": ""})))
    assert "**A** passes test T1 and fails T2; **B** passes T2 and fails T1." in text


def test_the_reason_names_both_by_their_numbers() -> None:
    made = asking()
    said = reason(made)
    assert "Two behaviours remain: for clamp(9, 0, 5), candidate 2 gives 5, candidate 1 gives" in said
    assert nobody(made.verdict) == "two behaviours remain, and somebody has to say which is right"
    assert "`/troop answer A`" in abstained(made)


def test_an_undecided_revision_asks_nothing() -> None:
    made = asking()
    without = made.verdict.model_copy(update={"parting": None})
    assert nobody(without) == "two behaviours are equally credible"


def test_the_answer_is_told_with_its_giver_and_test() -> None:
    made = decided(asking(), Option.A, "ann")
    assert "ann answered that `clamp(9, 0, 5)` is to give `5`, so test T1 decides." in reason(made)
    assert "The vote of test T2 is struck: ann answered otherwise." in reason(made)
    closed = answered(made)
    assert "- [ ]" not in closed
    assert "`ann` answered **A**." in closed
    assert "Draft ready" in solved(made, "https://x/pull/2")


def test_the_label_is_one_of_its_own() -> None:
    assert Labels().question == "troop: question"
    assert Labels().question in Labels().known
