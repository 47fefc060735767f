"""An edit whose path is no file goes where its text stands, if that is one place only."""

import pytest

from bot.patch.apply import Block, Delete, Replace
from bot.records import SourceFile
from bot.solver.stages.trajectories import rehomed

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
