"""The regression test of the repository's own kind: taken only if it tells the winner from the base commit."""

from collections.abc import Mapping

import pytest

from bot.records import (
    Choice,
    Execution,
    FileChange,
    Outcome,
    OwnTests,
    OwnTestsReport,
    Patch,
    RegressionTest,
    Rule,
    SandboxJob,
    Verdict,
)
from bot.settings import SolverSettings
from bot.solver.ballot import count
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import Question
from bot.solver.stages.regression_test import RegressionTests
from tests.bot.solver.ballots import ballot
from tests.bot.solver.stages.test_selection import CONTEXT, ISSUE
from tests.fakes import PASSED, FakeSandbox, exited
from tests.scripted import ScriptedModel, rules

SOLVER = ResolvedSolver(profile="full", settings=SolverSettings(output_tokens=400))
PYTEST = ("python3", "-m", "pytest", "-v")
OWN = {"tests/test_a.py": "import a\n\ndef test_a():\n    assert a\n", "tests/test_b.py": "x"}
FILES = ("a.py", *OWN)
WRITTEN = '<test path="tests/test_adding.py">\ndef test_adding():\n    assert add(1, 2) == 3\n</test>'
FAILS, PASSES = exited(1, "= 1 failed in 0.1s ="), exited(0, "= 1 passed in 0.1s =")


def as_it_should(job: SandboxJob) -> Execution:
    return PASSES if any(change.path == "a.py" for change in job.changes) else FAILS


def of_winner(own: OwnTestsReport | None, patch: Patch | None = None) -> Verdict:
    b = ballot("..", "++")
    if patch is not None:
        b = b.model_copy(update={"candidates": (b.candidates[0].model_copy(update={"patch": patch}),)})
    choice = Choice(rule=Rule.ONLY_CREDIBLE, front_runner=0)
    return Verdict(outcome=Outcome.SOLVED, winner=0, standings=count(b), choice=choice, ballot=b, own_tests=own)


COMPARED = OwnTestsReport(command=PYTEST, base=OwnTests(execution=PASSED))


async def asked(
    replies: str | list[str],
    sandbox: FakeSandbox,
    verdict: Verdict | None = None,
    tests: Mapping[str, str] = OWN,
) -> tuple[RegressionTest | None, ScriptedModel]:
    model = ScriptedModel(rules([("regression_test/", replies)]))
    verdict = verdict or of_winner(COMPARED)
    made = RegressionTests(Question(ISSUE, CONTEXT), verdict, FILES, tests, sandbox, SOLVER)
    return await made.written(model), model


async def test_it_is_run_by_the_repositorys_own_command_on_both_trees() -> None:
    sandbox = FakeSandbox(as_it_should)
    found, model = await asked(WRITTEN, sandbox)
    assert found is not None
    assert found.change == FileChange(
        path="tests/test_adding.py", text="def test_adding():\n    assert add(1, 2) == 3\n"
    )
    assert "+++ b/tests/test_adding.py" in found.diff
    assert {job.command for job in sandbox.jobs} == {(*PYTEST, "tests/test_adding.py")} == {found.command}
    shown = model.calls[0].messages[-1].content
    assert '<file path="tests/test_a.py">' in shown, "the tests of what the patch changes are the example"
    assert "beside `tests/test_a.py`" in shown
    assert "python3 -m pytest -v" in shown


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("tests/test_a.py", "exists"),
        ("adding.py", "is not the name of a file of tests"),
        ("tests/conftest.py", "is not the name of a file of tests"),
        ("tests/__init__.py", "is not the name of a file of tests"),
        ("../test_x.py", "test_x.py"),
        (".github/test_x.py", "decides what runs"),
        ("tests/test_a.js", "the command does not run"),
    ],
)
async def test_a_path_that_will_not_do_is_told(path: str, why: str) -> None:
    sandbox = FakeSandbox(as_it_should)
    found, model = await asked([WRITTEN.replace("tests/test_adding.py", path), WRITTEN], sandbox)
    assert found is not None
    assert found.change.path == "tests/test_adding.py"
    assert why in model.calls[1].messages[-1].content


@pytest.mark.parametrize(
    ("base", "patched", "why"),
    [
        (PASSES, PASSES, "passes on the original repository"),
        (FAILS, FAILS, "fails with the patch, too"),
        (FAILS, exited(0, "= no tests ran in 0.1s ="), "could not be run with the patch"),
        (exited(1, "No module named pytest"), PASSES, "could not be run on the original repository"),
    ],
)
async def test_what_does_not_tell_the_trees_apart_is_told_and_not_taken(
    base: Execution, patched: Execution, why: str
) -> None:
    sandbox = FakeSandbox(lambda job: patched if any(c.path == "a.py" for c in job.changes) else base)
    found, model = await asked(WRITTEN, sandbox)
    assert found is None
    assert len(model.calls) == 3
    assert why in model.calls[1].messages[-1].content


async def test_no_reply_is_asked_for_without_a_command_or_where_the_patch_brings_its_test() -> None:
    own = Patch(changes=(FileChange(path="a.py", text="x"), FileChange(path="tests/test_new.py", text="x")), diff="")
    for verdict in (of_winner(None), of_winner(OwnTestsReport()), of_winner(COMPARED, own)):
        found, model = await asked(WRITTEN, FakeSandbox(as_it_should), verdict)
        assert found is None
        if verdict.own_tests != OwnTestsReport():
            assert model.calls == []


async def test_a_repository_without_tests_of_its_kind_gets_no_example() -> None:
    found, model = await asked(WRITTEN, FakeSandbox(as_it_should), tests={})
    assert found is not None
    assert "how the repository's own tests look" not in model.calls[0].messages[-1].content
