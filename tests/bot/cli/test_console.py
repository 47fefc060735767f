import io

import pytest
from rich.console import Console

from bot.cli.console import MATRIX_LIMIT, SHOWN, print_report
from bot.cli.say import say
from bot.cli.terminal import Terminal
from bot.publish.messages.reason import reason
from bot.records import Report, Usage
from tests.bot.sample import report


def shown(of: Report) -> str:
    out = io.StringIO()
    print_report(of, Console(file=out, width=120))
    return out.getvalue()


def test_the_count_of_a_solved_run() -> None:
    made = report()
    text = shown(made)
    assert "3 candidates, 4 tests" in text
    assert "the 3 tests that vote, on each candidate" in text
    assert "     1 +++" in text
    assert "     3 +.." in text
    assert text.count("fails its own test") == 1
    assert "33 calls, 120,000 prompt tokens (90,000 from cache), 4,567 generated, 130.4 s" in text
    assert f"solved: {reason(made)}" in " ".join(text.split())
    assert "+    return max(low, min(x, high))" in text
    assert text.count("→") == 1


def test_the_tokens_of_each_stage() -> None:
    stages = {"context": Usage(prompt_tokens=900, completion_tokens=100), "selection": Usage(prompt_tokens=1_000)}
    text = shown(report().model_copy(update={"usage_by_stage": stages}))
    assert "tokens by stage: context 1,000 (50%), selection 1,000 (50%)" in text
    assert "by stage" not in shown(report())


def test_an_abstention_shows_the_diffs_of_the_best() -> None:
    made = report(winner=None, said="a [bold]word[/bold]")
    text = shown(made)
    assert f"abstained: {reason(made)}" in " ".join(text.split())
    assert "a [bold]word[/bold]" in text  # a model's words are no mark-up
    assert text.count("diff --git") == min(SHOWN, len(made.verdict.standings))
    assert text.index("candidate 1:") < text.index("candidate 2:")
    assert "→" not in text


def test_what_a_candidate_breaks_is_named() -> None:
    made = report(winner=None)
    best, *others = made.verdict.standings
    worse = best.model_copy(update={"regressions": ("tests/test_a.py::test_b[/c]", "tests/test_a.py::test_d")})
    verdict = made.verdict.model_copy(update={"standings": (worse, *others)})
    text = shown(made.model_copy(update={"verdict": verdict}))
    assert "breaks tests/test_a.py::test_b[/c], tests/test_a.py::test_d\n" in text


def test_what_a_candidate_mends_is_counted() -> None:
    made = report()
    best, *others = made.verdict.standings
    better = best.model_copy(update={"mended": ("tests/test_a.py::test_b",)})
    verdict = made.verdict.model_copy(update={"standings": (better, *others)})
    assert "mends 1 test" in " ".join(shown(made.model_copy(update={"verdict": verdict})).split())


def test_no_votes_and_what_was_disqualified() -> None:
    text = shown(report(base=(True, True, True, None), winner=None, disqualified={1: "changes conftest.py"}))
    assert "there are no votes" in text
    assert "changes conftest.py" in text


def test_one_of_each_and_more_tests_than_columns() -> None:
    tests = MATRIX_LIMIT + 2
    one = shown(report(report().verdict.ballot.candidates[0].patch and (report().verdict.ballot.candidates[0].patch,),
                       cells=((True,),), base=(False,)))  # fmt: skip
    assert "1 candidate, 1 test" in one
    assert "the test that votes" in one
    many = shown(report(cells=((True,) * tests,) * 3, base=(False,) * tests))
    assert "+" * MATRIX_LIMIT + " and 2 more" in many
    assert f"{tests} attempts" in many


HOSTILE = "seen\x1b]52;c;aGk=\x07\x1b[2J\x1b[8mhidden\u202e\x9b1m\x08\rover"


def test_attack_41_a_terminal_obeys_nothing_of_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    made = report(winner=None, said=HOSTILE)
    patch = made.verdict.ballot.candidates[0].patch.model_copy(update={"diff": f"+{HOSTILE}\n"})
    candidates = tuple(one.model_copy(update={"patch": patch}) for one in made.verdict.ballot.candidates)
    ballot = made.verdict.ballot.model_copy(update={"candidates": candidates})
    verdict = made.verdict.model_copy(update={"ballot": ballot})
    print_report(made.model_copy(update={"verdict": verdict, "notes": (HOSTILE,)}), Terminal(file=out, width=200))
    say(HOSTILE)
    for printed in (out.getvalue(), capsys.readouterr().out):
        assert "seen\\x1b]52;c;aGk=" in printed
        assert not set("\x1b\x07\x08\x9b\r\u202e") & set(printed)
