"""The winner described for its reviewer: what the model is shown, and how a run does without its words."""

import re

import pytest

from bot.records import Choice, Description, FileChange, Outcome, Rule, SourceFile, Verdict
from bot.settings import SolverSettings
from bot.solver.ballot import count
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question
from bot.solver.stages.description import describe, telling_test
from tests.bot.solver.ballots import ballot
from tests.bot.solver.stages.test_selection import CONTEXT, ISSUE
from tests.scripted import Mode, Script, ScriptedModel, rules

SAID = "<cause>It adds twice.</cause>\n<change>It adds once.</change>\n<check>nothing</check>"
SOLVER = ResolvedSolver(profile="full", settings=SolverSettings(output_tokens=400))


def verdict() -> Verdict:
    b = ballot("...+", "++.+", ".+++", "+..+")
    choice = Choice(rule=Rule.CLEAR_LEAD, front_runner=0)
    return Verdict(outcome=Outcome.SOLVED, winner=0, standings=count(b), choice=choice, ballot=b)


async def described(script: Script, **options: object) -> tuple[Description | None, ScriptedModel]:
    model = ScriptedModel(script, **options)  # type: ignore[arg-type]
    return await describe(Question(ISSUE, CONTEXT), verdict(), model, SOLVER), model


async def test_the_model_sees_the_patch_and_the_test_that_tells_it_from_the_others() -> None:
    found, model = await described(rules([("description/", SAID)]))
    assert found == Description(cause="It adds twice.", change="It adds once.")
    shown = model.calls[0].messages[-1].content
    assert verdict().ballot.candidates[0].patch.diff.rstrip() in shown
    assert '<test path="test_0.py">\n# 0\n</test>' in shown


def test_the_telling_test_is_passed_by_the_winner_and_failed_by_most_others() -> None:
    b = ballot("...", "++.", "+..", "...")
    found = telling_test(b, 0)
    assert found is not None
    assert found.path == "test_1.py"
    assert telling_test(b, 2) is None


async def test_a_reply_without_the_form_is_asked_for_again_once() -> None:
    found, model = await described(rules([("description/", ["It is fixed.", SAID])]))
    assert found is not None
    assert "there is no <cause>" in model.calls[1].messages[-1].content
    found, model = await described(rules([("description/", "It is fixed.")]))
    assert found is None
    assert model.keys == ["description/1", "description/2"]


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.OVERFLOW, Mode.EMPTY, Mode.GARBAGE])
async def test_a_model_that_fails_leaves_the_run_whole(mode: Mode) -> None:
    found, _ = await described(rules([("description/", SAID)]), mode=mode)
    assert found is None


async def shown_files(changed: tuple[str, ...], window: int) -> list[str]:
    """The paths of the files that the model is shown, of four, where the winner changes those."""
    files = tuple(SourceFile(path=f"f{i}.py", text="x = 1\n" * 2_000) for i in range(4))
    question = Question(ISSUE, CONTEXT.model_copy(update={"files": files}))
    model = ScriptedModel(rules([("description/", SAID)]), context_window=window)
    said, changes = verdict(), tuple(FileChange(path=path, text="") for path in changed)
    winner, *others = said.ballot.candidates
    winner = winner.model_copy(update={"patch": winner.patch.model_copy(update={"changes": changes})})
    ballot = said.ballot.model_copy(update={"candidates": (winner, *others)})
    assert await describe(question, said.model_copy(update={"ballot": ballot}), model, SOLVER) is not None
    return re.findall(r'^<file path="(.*)">$', model.calls[0].messages[-1].content, re.MULTILINE)


async def test_the_changed_files_alone_are_shown() -> None:
    assert await shown_files(("f1.py", "f3.py", "new.py"), 131_072) == ["f1.py", "f3.py"]


async def test_files_that_do_not_fit_the_window_are_left_out() -> None:
    shown = await shown_files(("f0.py", "f1.py", "f2.py", "f3.py"), 8_192)
    assert shown[0] == "f0.py"
    assert "f2.py" not in shown
