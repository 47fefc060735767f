import ast
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.evaluation.planting import hidden
from bot.evaluation.planting.bugs import Bug, module_name, plant
from bot.evaluation.planting.mutations import functions_with_doctests, mutations
from bot.evaluation.planting.packages import split, write_tree
from bot.records import FileChange, SandboxJob, Test
from bot.sandbox import open_sandbox
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.doctests import docstrings
from tests.acceptance.packages import PINNED
from tests.bot.evaluation.planting.tiny import CALC, TINY


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[ProcessSandbox]:
    write_tree(TINY.files, tmp_path)
    opened = await open_sandbox(SandboxSettings(kind="process"), tmp_path, notice=lambda _: None)
    assert isinstance(opened, ProcessSandbox)
    yield opened
    await opened.close()


def changes_of(source: str) -> set[tuple[str, str]]:
    text = f'def f(a, b):\n    """Doc.\n\n    >>> f(1, 2)\n    """\n    {source}\n'
    (function,) = functions_with_doctests(text)
    return {(m.before.strip(), m.after.strip()) for m in mutations(text, function)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return a < b", "return a <= b"),
        ("return a is not b", "return a is b"),
        ("return a + b", "return a - b"),
        ("return a[1:]", "return a[:1]"),
        ("return a[:b]", "return a[b:]"),
        ("return a[1:]", "return a[2:]"),
        ("return a[1:]", "return a[0:]"),
        ("return a and b", "return a or b"),
        ("return not a", "return a"),
        ("return True", "return False"),
        ("return min(a, b)", "return max(a, b)"),
        ("return a.strip()", "return a.lstrip()"),
        ("a += b", "a -= b"),
        ("if a: return b", "if not a: return b"),
        ("if a or b: return b", "if not (a or b): return b"),
        ("return 'é' + b", "return 'é' - b"),
    ],
)
def test_each_kind_of_mutation(before: str, after: str) -> None:
    assert (before, after) in changes_of(before)


def test_a_mutation_is_one_line_of_the_code_and_never_of_the_docstring() -> None:
    for function in functions_with_doctests(CALC):
        found = mutations(CALC, function)
        assert found
        for mutation in found:
            changed = mutation.apply(CALC)
            ast.parse(changed)
            pairs = zip(CALC.split("\n"), changed.split("\n"), strict=True)
            assert [i for i, (a, b) in enumerate(pairs, 1) if a != b] == [mutation.line]
            assert mutation.line >= function.body[1].lineno
    assert [f.name for f in functions_with_doctests(CALC)] == ["total", "head", "is_small"]


async def planted(sandbox: ProcessSandbox, seed: int) -> list[Bug]:
    return await plant(TINY, sandbox, 3, 3, seed)


async def test_planted_bugs_can_be_told_and_checked(sandbox: ProcessSandbox) -> None:
    bugs = await planted(sandbox, 1)
    assert {bug.function for bug in bugs} == {"total", "head", "is_small"}
    for bug in bugs:
        broken = (FileChange(path=bug.path, text=bug.files(TINY)[bug.path]),)
        words = (broken[0].text or "").replace(bug.mutation.after, bug.mutation.before)
        assert words == CALC
        assert bug.function in bug.title
        assert bug.path in bug.body
        assert f"{bug.function}(" in bug.body
        assert "comment" not in bug.body
        assert bug.check.text not in bug.body
        assert (await sandbox.run(SandboxJob(changes=broken, test=bug.check))).passed is False
        assert (await sandbox.run(SandboxJob(changes=bug.fix(TINY), test=bug.check))).passed
        assert bug.with_tests == (bug.function != "total")
        if bug.function == "head":
            assert "numbers = [1, 2, 3, 4]" in bug.body


async def test_the_list_depends_on_the_seed_alone(sandbox: ProcessSandbox) -> None:
    first, again = await plant(TINY, sandbox, 2, 3, 5), await plant(TINY, sandbox, 2, 3, 5, wide=1)
    assert first == again
    assert len(first) == 2
    assert len(await plant(TINY, sandbox, 3, 1, 5)) == 1


@pytest.mark.parametrize(("text", "passed"), [("while True: pass", False), ("import time; time.sleep(1.5)", True)])
async def test_what_computes_too_long_is_left_out_and_what_waits_is_not(
    sandbox: ProcessSandbox, text: str, passed: bool
) -> None:
    script = hidden.limited(Test(path="a.py", text=text), 1)
    assert (await sandbox.run(SandboxJob(test=script, timeout=120))).passed == passed


async def test_changing_the_docstring_fools_no_check(sandbox: ProcessSandbox) -> None:
    bug = next(b for b in await planted(sandbox, 1) if b.function == "total")
    text = bug.files(TINY)[bug.path].replace(">>> total", ">>> 6 #")
    assert text.count(">>> 6 #") == 2
    assert not (await sandbox.run(SandboxJob(changes=(FileChange(path=bug.path, text=text),), test=bug.check))).passed


def test_docstrings_by_qualified_name() -> None:
    text = '"""M\n\n>>> 1\n1\n"""\nclass A:\n    def f(self):\n        """F\n\n        >>> 2\n        2\n        """\n'
    assert set(docstrings(text)) == {"", "A.f"}
    assert module_name("a/b.py") == "a.b"
    assert module_name("a/__init__.py") == "a"


def test_a_package_is_split_into_checkout_and_tests() -> None:
    toolz = next(pinned for pinned in PINNED if pinned.name == "toolz")
    texts = {"toolz/a.py": "", "toolz/tests/test_a.py": "", "README.rst": "", "setup.py": "", "docs/a.py": ""}
    package = split(toolz, texts)
    assert set(package.files) == {"toolz/a.py", "README.rst"}
    assert set(package.tests) == {"toolz/tests/test_a.py"}


def test_the_packages_are_pinned_and_not_what_the_model_learned_from() -> None:
    learned = Path("bot/capuchin/exercises/packages.txt")
    lines = learned.read_text().splitlines() if learned.exists() else []
    names = {line.split("==")[0].strip().lower().replace("_", "-") for line in lines if "==" in line}
    assert not names & {pinned.name for pinned in PINNED}
    assert len(PINNED) == 3
