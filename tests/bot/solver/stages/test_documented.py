"""Examples of the documentation, run by themselves in a sandbox of processes."""

import ast
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.contracts import Sandbox
from bot.errors import SandboxError
from bot.records import (
    Documented,
    Ending,
    Execution,
    FileChange,
    NotCompared,
    OwnTestsReport,
    Patch,
    SandboxJob,
    TrajectoryEnd,
)
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.ballot import count
from bot.solver.documented import compared, files_of, script, seen
from bot.solver.harness import Harness
from bot.solver.stages.documented import DocumentedExamples
from bot.solver.stages.own_tests import run_own_tests_on
from tests.bot.solver.ballots import ballot
from tests.bot.solver.stages.sampling import FIX, TEST, asked, by_call, edit, real, sample
from tests.fakes import FakeProgress, FakeSandbox, exited
from tests.scripted import ScriptedModel

SUMS = '''\
"""Sums.

>>> total([1])
1
"""
import random
from . import names


def total(values):
    """The sum.

    >>> total([1, 2])
    3
    >>> total([])
    0
    >>> total([0.1, 0.2])
    0.3...
    >>> total("x")
    Traceback (most recent call last):
    TypeError: unsupported operand type(s) for +: 'int' and 'str'
    >>> total([5])
    6
    >>> random.random() < 0
    True
    >>> total([9])  # doctest: +SKIP
    1
    >>> total([7])
    7
    """
    return sum(values)


class Basket:
    def size(self):
        """
        >>> Basket().size()
        0
        """
        return 0
'''
PATH = "src/shop/sums.py"


@asynccontextmanager
async def opened(tmp_path: Path, files: dict[str, str]) -> AsyncIterator[Sandbox]:
    for path, text in files.items():
        target = tmp_path / "tree" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    sandbox = await open_sandbox(SandboxSettings(kind="process"), tmp_path / "tree", notice=lambda _: None)
    try:
        yield sandbox
    finally:
        await sandbox.close()


def patch(text: str | None, path: str = PATH) -> Patch:
    return Patch(changes=(FileChange(path=path, text=text),), diff="-")


SHOP = {"src/shop/__init__.py": "", "src/shop/names.py": "NAME = 'shop'\n", PATH: SUMS}


async def broken(sandbox: Sandbox, text: str) -> tuple[str, ...] | None:
    found = await DocumentedExamples(sandbox, SolverSettings()).on(4, patch(text))
    assert found is None or found.candidate == 4
    return None if found is None else found.broken


@pytest.mark.slow
async def test_what_the_documentation_says_and_the_code_did_must_be_so_still(tmp_path: Path) -> None:
    async with opened(tmp_path, SHOP) as sandbox:
        examples = DocumentedExamples(sandbox, SolverSettings())
        assert await examples.on(0, patch(SUMS + "\nMORE = 1\n")) == Documented(candidate=0, held=7)
        wrong = SUMS.replace("sum(values)", "sum(values) + (len(values) == 2)")
        found = await examples.on(1, patch(wrong))
        assert found == Documented(
            candidate=1,
            held=5,
            broken=(
                f"{PATH}: total([1, 2]), documented as 3, gives 4",
                f"{PATH}: total([0.1, 0.2]), documented as 0.3..., gives 1.3",
            ),
        )
        (gone,) = await broken(sandbox, SUMS.replace("import names", "import nothing")) or ()
        assert gone.startswith(f"import {PATH}, gives ImportError: cannot import name 'nothing'")
        (unread,) = await broken(sandbox, SUMS.replace("import random", "import random as (")) or ()
        assert unread.startswith(f"import {PATH}, gives SyntaxError: ")  # which words follow, Pythons differ in
        assert unread.endswith(" (sums.py, line 6)")
        (cut,) = await broken(sandbox, SUMS.replace("import random", "import random, os; os._exit(0)")) or ()
        assert cut.startswith(f"examples in {PATH}: ")


@pytest.mark.slow
async def test_a_candidate_may_document_what_it_changes(tmp_path: Path) -> None:
    async with opened(tmp_path, SHOP) as sandbox:
        other = SUMS.replace("sum(values)", "float(sum(values))").replace("    3\n", "    3.0\n")
        other = other.replace("total([])\n    0\n", "total([])\n    0.0\n").replace("    7\n", "    7.0\n")
        assert await broken(sandbox, other.replace("\n1\n", "\n1.0\n")) == ()
        assert await broken(sandbox, other) == (f"{PATH}: total([1]), documented as 1, gives 1.0",)
        mends_what_failed = SUMS.replace("sum(values)", "6 if values == [5] else sum(values)")
        assert await broken(sandbox, mends_what_failed) == ()
        assert await broken(sandbox, "NOTHING = 1\n") is None
        off = DocumentedExamples(sandbox, SolverSettings(examples=False))
        assert await off.on(0, patch(SUMS.replace("sum(values)", "None"))) is None


SEEN = 'x\n\nEXAMPLES {"held": ["a", "b"], "failed": [["c", "a.py: f(1)", "1", "2"]]}\n'


@pytest.mark.parametrize(
    "output",
    [
        "",
        "EXAMPLES",
        "\nEXAMPLES {",
        "\nEXAMPLES []",
        '\nEXAMPLES {"held": 1, "failed": []}',
        "\nEXAMPLES " + "[" * 9999,
    ],
)
def test_what_is_no_report_says_nothing(output: str) -> None:
    assert seen(exited(0, output)) is None


def test_what_fails_in_one_run_alone_is_no_regression() -> None:
    base = seen(exited(0, SEEN))
    assert base is not None
    both = exited(0, SEEN.replace('["a", "b"]', "[]").replace('[["c"', '[["a", "a.py: g()", "", "KeyError: 1"], ["b"'))
    one = exited(0, SEEN.replace('"c"', '"a"').replace('["a", "b"]', '["b"]'))
    broken_by_both = compared(0, [base], [both], ["a.py"])
    assert broken_by_both == Documented(
        candidate=0, broken=("a.py: g(), gives KeyError: 1", "a.py: f(1), documented as 1, gives 2")
    )
    assert compared(0, [base], [both, one], ["a.py"]) == Documented(
        candidate=0, held=1, broken=("a.py: g(), gives KeyError: 1",)
    )
    assert compared(0, [base], [exited(0, SEEN), both], ["a.py"]) == Documented(candidate=0, held=2)
    stopped = Execution(ending=Ending.TIMED_OUT, output="")
    hangs = compared(0, [base], [stopped, stopped], ["a.py", "b.py"])
    assert hangs is not None
    assert hangs.broken[0].startswith("examples in a.py, b.py: ")
    assert compared(0, [base], [stopped, both], ["a.py"]) is None
    assert compared(0, [base], [Execution(ending=Ending.UNAVAILABLE, output="")], ["a.py"]) is None


def test_a_report_keeps_few_of_many_contradictions() -> None:
    keys = [f"k{i}" for i in range(200)]
    base = seen(exited(0, f"\nEXAMPLES {json.dumps({'held': keys, 'failed': []})}\n"))
    assert base is not None
    failed = [[key, "a.py: f()" + "x" * 300, "1" * 300, "2" * 300] for key in keys]
    found = compared(0, [base], [exited(0, f"\nEXAMPLES {json.dumps({'held': [], 'failed': failed})}\n")], ["a.py"])
    assert found is not None
    assert 1 < len(found.broken) <= 20


def test_which_files_may_hold_examples() -> None:
    paths = ("a.py", "b/c.py", "setup.py", "tests/test_a.py", "b/__main__.py", "conftest.py", "a.pyi", "README.md")
    assert files_of(paths) == ("a.py", "b/c.py")


async def test_where_the_sandbox_fails_nothing_is_said() -> None:
    def answer(job: SandboxJob) -> Execution:
        if job.changes:
            raise SandboxError("no room")
        return exited(0, SEEN)

    judge = FakeSandbox(answer)
    examples = DocumentedExamples(judge, SolverSettings())
    assert await examples.on(0, patch(">>> 1\n1\n")) is None
    assert [job.again for job in judge.jobs] == [0, 1, 0]
    assert len({job.key for job in judge.jobs}) == 3, "or a journal would answer for the second run"
    assert {job.test for job in judge.jobs} == {script((PATH,))}
    assert await examples.on(0, patch(None)) is None
    assert await examples.on(0, patch(">>> 1\n1\n", "README.md")) is None
    assert len(judge.jobs) == 3


async def test_a_count_that_is_made_again_runs_the_examples_that_the_bundle_speaks_of() -> None:
    b = ballot(".", "+", "+", "+")
    patches = [patch(f">>> 1\n1\n# {i}\n") for i in range(3)]
    candidates = tuple(c.model_copy(update={"patch": p}) for c, p in zip(b.candidates, patches, strict=True))
    b = b.model_copy(update={"candidates": candidates})

    def answer(job: SandboxJob) -> Execution:
        wrong = job.changes == patches[1].changes
        held, failed = ([], [["a", "a.py: f(1)", "1", "2"]]) if wrong else (["a"], [])
        return exited(0, f"\nEXAMPLES {json.dumps({'held': held, 'failed': failed})}\n")

    judge = FakeSandbox(answer)
    claimed = OwnTestsReport(documented=(Documented(candidate=0, held=1), Documented(candidate=1, held=1)))
    harness = Harness(judge, SolverSettings(), FakeProgress())
    found = await run_own_tests_on(claimed, b, OwnTestsReport(not_compared=NotCompared.NO_COMMAND), harness)
    assert [one.candidate for one in found.documented] == [0, 1]
    assert [bool(s.regressions) for s in sorted(count(b, found), key=lambda s: s.candidate)] == [False, True, False]
    assert sum(not job.changes for job in judge.jobs) == 2, "the candidates share the base commit's"


# -- within a trajectory ----------------------------------------------------------------------------------------------

WRONG = edit("return abs(a) + b")


def judged(job: SandboxJob) -> Execution:
    """Tests run for real; of the examples the one in `mod.py` holds unless `abs` is in the edit."""
    if job.test is None or job.test.path != script(("mod.py",)).path:
        return real(job)
    if any("abs" in (change.text or "") for change in job.changes):
        return exited(0, '\nEXAMPLES {"held": [], "failed": [["a", "mod.py: add(-1, 2)", "1", "3"]]}\n')
    return exited(0, '\nEXAMPLES {"held": ["a"], "failed": []}\n')


def document(root: Path) -> None:
    (root / "mod.py").write_text('def add(a, b):\n    """\n    >>> add(-1, 2)\n    1\n    """\n    return a - b\n')


async def test_the_model_is_told_what_its_edit_contradicts(root: Path) -> None:
    document(root)
    model = ScriptedModel(by_call([TEST, "<approve/>"], [WRONG, FIX, "<done/>"]))
    (t,) = await sample(root, model, FakeSandbox(judged))
    said = (
        "These documented examples hold without your edit, and not with it:\n\n<output>\nmod.py: add(-1, 2), documented"
    )
    assert said in asked(model, "trajectory/0/edit/2")
    assert "documented examples" not in asked(model, "trajectory/0/edit/3")
    assert t.end is TrajectoryEnd.DONE


async def test_an_edit_that_fails_its_test_is_held_to_the_documentation_at_its_end(root: Path) -> None:
    document(root)
    stubborn = TEST.replace("== 3", "== 4")
    model = ScriptedModel(by_call([stubborn, "<approve/>"], [WRONG, "<done/>", "<done/>"]))
    (t,) = await sample(root, model, FakeSandbox(judged))
    assert "documented examples" not in asked(model, "trajectory/0/edit/2")
    refusal = asked(model, "trajectory/0/edit/3")
    assert "the edit contradicts documented examples that hold without it\nmod.py: add(-1, 2), " in refusal
    assert t.end is TrajectoryEnd.DONE


async def test_compact_drops_an_edit_that_contradicts_the_documentation(root: Path) -> None:
    document(root)
    model = ScriptedModel(by_call([TEST, "<approve/>"], [WRONG, FIX]))
    (t,) = await sample(root, model, FakeSandbox(judged), profile="compact")
    assert t.patch is not None
    assert "return a + b" in (t.patch.changes[0].text or "")
    assert (t.end, t.calls) == (TrajectoryEnd.DONE, 4)


def test_the_script_needs_no_new_python() -> None:
    tree = ast.parse(script(("a.py",)).text, feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    evaluated = [one for f in functions for one in (f.returns, *(arg.annotation for arg in f.args.args)) if one]
    # Before Python 3.9 `dict[str, str]` is an error where the function is defined.
    assert not [ast.unparse(one) for one in evaluated if isinstance(one, ast.Subscript | ast.BinOp)]
