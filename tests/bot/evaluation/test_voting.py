import contextlib
import io
import json
from collections.abc import Sequence

import pytest

from bot.errors import EndpointError
from bot.evaluation.asserts import ANSWERS, MARK, answers, asserts_of, calls, job, outcomes, stub
from bot.evaluation.matrices import Row, line
from bot.evaluation.samples import Sample
from bot.evaluation.sampling import Drawing
from bot.evaluation.selectors import our_choice, read_matrices
from bot.evaluation.tasks import FunctionTask
from bot.evaluation.voting import fill_matrices
from bot.journal import MemoryJournal
from bot.records import Ending, Execution, Message, SandboxJob
from tests.fakes import FakeSandbox, exited
from tests.scripted import Mode, ScriptedModel

TASK = FunctionTask(
    id="t/0", prompt='import math\n\ndef double(x):\n    """Twice."""\n', entry_point="double", check=""
)
DRAWING = Drawing(samples=2, temperature=0.6, seed=0, max_tokens=100, at_once=4)


def run(sandbox_job: SandboxJob) -> Execution:
    """As a sandbox runs it, in this process."""
    assert sandbox_job.test is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(sandbox_job.test.text, {})
        except BaseException:
            return exited(1, printed.getvalue())
    return exited(0, printed.getvalue())


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("```python\nassert double(2) == 4\nassert  double( 2 )==4 # again\n```", ["assert double(2) == 4"] * 2),
        ("```python\nassert double(2) == 4, 'two'\nassert other(1) == 2\n```", ["assert double(2) == 4"]),
        ("assert double(1) == 2\nno Python\nassert double(3) == 6", ["assert double(1) == 2", "assert double(3) == 6"]),
        ("```python\nassert double(x) == 4\nassert double(math.pi) == 6\n```", ["assert double(math.pi) == 6"]),
        ("```python\nassert all(double(i) for i in [3])\n```", ["assert all((double(i) for i in [3]))"]),
        ("```\nassert sorted([1], key=lambda a: double(a))\n```", ["assert sorted([1], key=lambda a: double(a))"]),
        ("```\nclass T:\n    def test(self):\n        self.assertEqual(double(1), 2)\n```", ["assert double(1) == 2"]),
        ("```\nself.assertTrue(double(1))\nself.assertFalse(double(0))\n```",
         ["assert double(1)", "assert not double(0)"]),
        ("```python\nassert double(" + "1" * 5000 + ") == 2\n```", []),
        ("no tests at all", []),
        ("", []),
    ],
)  # fmt: skip
def test_asserts_are_found_however_they_are_written(reply: str, found: list[str]):
    assert asserts_of(reply, TASK) == found


def test_each_test_runs_on_the_candidate_and_hangs_of_none_hold_the_others():
    tests = ["assert double(2) == 4", "assert double(2) == 5", "while double(1): pass", "assert double(3) == 6"]
    assert outcomes(run(job(TASK, "def double(x): return 2 * x", tests)), 4) == "1001"
    assert outcomes(run(job(TASK, stub(TASK), tests)), 4) == "0010"
    assert outcomes(run(job(TASK, "def double(x: broken", tests)), 4) == "0000"
    assert outcomes(run(job(TASK, "raise SystemExit(0)", tests)), 4) == "0000"


@pytest.mark.parametrize("output", ["", f"\n{MARK}10", f"\n{MARK}1x1", f"\n{MARK}1111"])
def test_a_candidate_that_ends_the_program_passes_nothing(output: str):
    assert outcomes(Execution(ending=Ending.EXITED, exit_code=0, output=output), 3) == "000"
    assert outcomes(Execution(ending=Ending.EXITED, exit_code=1, output=f"\n{MARK}111"), 3) == "000"


def test_what_candidates_answer_to_calls_is_told_apart():
    codes = ["def double(x): return 2 * x", "def double(x): return x + x", "def double(x): return abs(x) * 2"]
    codes += ["def double(x):\n while x > 9: pass\n return x * 2", "raise SystemExit(0)", "import os; os._exit(0)"]
    tests = ["assert double(2) == 4", "assert double(3) == double(1) + 4"]
    assert calls(TASK, tests)[:3] == ["double(2)", "double(3)", "double(1)"]
    same, other, positive, endless, ended = [
        answers(run(job(TASK, code, tests, calls(TASK, tests)))) for code in codes[:5]
    ]
    assert same == other != positive
    assert len(same) == len(calls(TASK, tests)) > 20
    assert "takes too long" in endless
    assert set(ended) == {"raises NameError"}
    assert answers(exited(0, "ended early")) == answers(exited(0, f"\n{ANSWERS}[")) == ()
    rows = [Row(9, "11", True, answers=row) for row in (same, positive, (), endless)]
    told = [row["answers"] for row in json.loads(line("t", [0], rows, [1, 1], "00"))["candidates"]]
    assert len({len(row) for row in told}) == 1
    assert all(len({one, of_none}) == 2 for one, _, of_none, _ in zip(*told, strict=True))
    matrix = read_matrices([line("t", [0, 1, 2, 3, 3], rows, [1, 1], "00")])[0].matrix
    assert matrix.answers is not None
    assert our_choice(matrix) in (0, 3), "most samples answer so"
    alike = read_matrices([line("t", [0, 1], [rows[0], rows[0]], [1, 1], "00")])[0].matrix
    assert alike.answers is not None
    assert alike.answers.shape == (2, 0)


def script(key: str, messages: Sequence[Message]) -> str:
    return (
        "```python\nassert double(2) == 4\nassert double(0) == 0\n```" if key.endswith("0") else "assert double(2) == 4"
    )


def samples(task: str) -> list[Sample]:
    codes = ["def double(x): return x + x", "def double(x): return x", "def double(x): return x + x"]
    return [
        Sample(task=task, sample=i, solves=i != 1, text=f"```python\n{code}\n```", logprob=-i / 4 if i else None)
        for i, code in enumerate(codes)
    ]


async def test_a_matrix_is_filled_once_and_has_what_the_selectors_read():
    journal, model, sandbox = MemoryJournal(), ScriptedModel(script), FakeSandbox(run)
    told: list[int] = []
    lines, spent = await fill_matrices([TASK], model, sandbox, DRAWING, samples, journal, told.append)
    row = json.loads(lines[0])
    assert (row["samples"], row["logprobs"]) == ([0, 1, 0], [None, -0.25, -0.5])
    assert [(c["passes"], c["solves"]) for c in row["candidates"]] == [("11", True), ("01", False)]
    assert row["test_copies"] == [2, 1]
    assert row["passes_on_stub"] == "00"
    assert told == [1]
    assert spent.calls == 2
    assert read_matrices(lines)[0].matrix.samples.tolist() == [2, 1]
    again, _ = await fill_matrices(
        [TASK], ScriptedModel(script, mode=Mode.ERROR), FakeSandbox(), DRAWING, samples, journal, told.append
    )
    assert again == lines
    assert len(sandbox.jobs) == 3


async def test_a_task_without_tests_has_an_empty_matrix():
    silent = ScriptedModel(lambda key, messages: "I write none.")
    lines, _ = await fill_matrices(
        [TASK], silent, FakeSandbox(run), DRAWING, samples, MemoryJournal(), lambda done: None
    )
    assert json.loads(lines[0])["test_copies"] == []
    assert read_matrices(lines) == []


async def test_an_endpoint_that_fails_is_told():
    broken = ScriptedModel(script, mode=Mode.ERROR)
    with pytest.raises(EndpointError, match="writes no tests for t/0"):
        await fill_matrices([TASK], broken, FakeSandbox(), DRAWING, samples, MemoryJournal(), lambda done: None)
