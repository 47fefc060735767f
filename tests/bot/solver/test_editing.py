"""Edits applied to the checkout: paths that are no file, and files that no candidate may change."""

from pathlib import Path

import pytest

from bot.patch.apply import Block, Create, Delete, Problem, Replace
from bot.records import Checkout, SourceFile
from bot.solver.editing import Applied, editing, rehomed

SHOWN = (
    SourceFile(path="pkg/a.py", text="def f(x):\n    return x\n\n\ndef g():\n    pass\n"),
    SourceFile(path="pkg/b.py", text="def h():\n    pass\n"),
)
KNOWN = frozenset({"pkg/a.py", "pkg/b.py"})


def edit(path: str, *searches: str) -> Replace:
    return Replace(path=path, blocks=tuple(Block(search=text, replace="") for text in searches))


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        pytest.param(edit("pgk/a.py", "    return x"), "pkg/a.py", id="misspelt"),
        pytest.param(edit("a.py", "    return x", "def g():"), "pkg/a.py", id="without its folder"),
        pytest.param(edit("pgk/a.py", "    pass"), "pgk/a.py", id="in two files"),
        pytest.param(edit("pgk/a.py", "    return y"), "pgk/a.py", id="nowhere"),
        pytest.param(edit("pgk/a.py", ""), "pgk/a.py", id="empty"),
        pytest.param(edit("pkg/b.py", "    return x"), "pkg/b.py", id="a file that is there"),
        pytest.param(edit("./pkg/b.py", "    return x"), "./pkg/b.py", id="a file that is there, with a dot"),
    ],
)
def test_rehomed(asked: Replace, path: str) -> None:
    assert rehomed(asked, SHOWN, KNOWN).path == path


def test_other_edits_stay() -> None:
    assert rehomed(Delete(path="pgk/a.py"), SHOWN, KNOWN) == Delete(path="pgk/a.py")


WORKFLOW = Create(path=".github/workflows/ci.yml", text="on: push\n")
LOCK = Create(path="uv.lock", text="x = 1\n")
FIX = Replace(path="mod.py", blocks=(Block(search="    return a - b", replace="    return a + b"),))


@pytest.mark.parametrize("other", [WORKFLOW, LOCK, Create(path="tests/test_mod.py", text="")])
def test_edits_of_what_may_not_be_changed_are_left_out_and_said(tmp_path: Path, other: Create) -> None:
    (tmp_path / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mod.py").write_text("import mod\n")
    checkout = Checkout(root=str(tmp_path), workspace="", commit="", files=("mod.py", "tests/test_mod.py"))
    apply = editing(checkout, (), repairs=True)
    applied = apply((FIX, other), None)
    assert isinstance(applied, Applied)
    assert (applied.patch.paths, applied.left_out) == (("mod.py",), other.path)
    alone = apply((other,), None)
    assert isinstance(alone, Problem)
    assert other.path in alone.text
    strict = editing(checkout, (), repairs=False)((FIX, other), None)
    assert isinstance(strict, Problem)
    assert other.path in strict.text


def test_attack_25_the_script_that_the_test_command_runs_is_not_edited(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    (tmp_path / "check.sh").write_text("python3 -m unittest\n")
    checkout = Checkout(root=str(tmp_path), workspace="", commit="", files=("mod.py", "check.sh"))
    apply = editing(checkout, (), repairs=False, tests=[("sh", "-c", "cd . && exec sh ./check.sh")])
    found = apply((FIX, Create(path="check.sh", text="exit 0\n")), None)
    assert isinstance(found, Problem)
    assert "changes check.sh, which judges it" in found.text
