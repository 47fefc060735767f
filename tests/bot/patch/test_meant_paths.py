"""A path that is no file's is the file that it can only mean."""

import pytest

from bot.patch.apply import Block, Create, Problem, Replace, Rewrite, apply
from bot.records import Patch

MOD = "def f(a):\n    if a:\n        return 1\n    return 2\n"


def replace(path: str, *blocks: tuple[str, str]) -> Replace:
    return Replace(path=path, blocks=tuple(Block(search=search, replace=new) for search, new in blocks))


@pytest.mark.parametrize(
    "path",
    [
        *("repo/pkg/mod.py", "~/code/repo/pkg/mod.py", "C:\\Users\\me\\repo\\pkg\\mod.py", "$REPO/pkg/mod.py"),
        *("file:pkg/mod.py", "i/pkg/mod.py", "w/pkg/mod.py", "pkg/../pkg/mod.py", "pkg/mod.py (line 6)", "mod.py"),
        *("\u201cpkg/mod.py\u201d", "PKG/Mod.py", "/srv/x/pkg/mod.py"),
    ],
)  # fmt: skip
def test_a_path_as_it_is_meant(path: str) -> None:
    paths = ["pkg/mod.py", "other/__init__.py", "pkg/__init__.py"]
    found = apply([replace(path, ("if a:", "if not a:"))], {"pkg/mod.py": MOD}.get, paths=paths)
    assert isinstance(found, Patch), found
    assert found.paths == ("pkg/mod.py",)


def test_a_path_that_may_be_another() -> None:
    files = {"mod.py": MOD, "pkg/mod.py": MOD, "pkg/a.py": MOD}
    for path in ("__init__.py", "other/pkg/mod.py", "pkg/sub/a.py", "../pkg/mod.py"):
        paths = [*files, "pkg/__init__.py", "x/__init__.py", "other/b.py"]
        assert isinstance(apply([replace(path, ("if a:", "if not a:"))], files.get, paths=paths), Problem), path
    for edit in (
        Create(path="new/mod.py", text="x"),
        Rewrite(path="new/mod.py", text="x"),
        Create(path="a.py", text="x"),
    ):
        made = apply([edit], files.get, paths=[*files])
        assert isinstance(made, Patch)
        assert made.paths == (edit.path,), "a new file"
    whole = apply([Rewrite(path="repo/pkg/a.py", text=MOD.replace("2", "3"))], files.get, paths=[*files])
    assert isinstance(whole, Patch)
    assert whole.paths == ("pkg/a.py",)
