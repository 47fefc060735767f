"""The one rule of safe paths (attack 17): the strictest of what apply, commits and sandboxes ask for."""

import os
from pathlib import Path

import pytest

from bot.patch.paths import link_stays_within, normalised, path_problem

RELATIVE, PLAIN, PRINTED, GIT, LONG = ("not relative", "not a plain path", "can't be printed", "git's own", "longer")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", RELATIVE),
        ("/", RELATIVE),
        ("/etc/passwd", RELATIVE),
        ("//host/x", RELATIVE),
        ("C:/x", RELATIVE),
        ("c:x", RELATIVE),
        (".", PLAIN),
        ("..", PLAIN),
        ("../x", PLAIN),
        ("a/../../x", PLAIN),
        ("a/../x", PLAIN),
        ("./a", PLAIN),
        ("a//b", PLAIN),
        ("a/", PLAIN),
        ("a\\b", PRINTED),
        ("..\\x", PRINTED),
        ("a\nb", PRINTED),
        ("a\x07b", PRINTED),
        ("a\x7fb", PRINTED),
        ("a\u202eb", PRINTED),
        ("a\udcffb", PRINTED),
        (".g\u200cit/config", PRINTED),  # HFS+ ignores the character
        (".git", GIT),
        (".git/hooks/pre-commit", GIT),
        ("sub/.GIT/config", GIT),
        (".git./config", GIT),
        ("pkg/.Git ./x", GIT),
        (".git . ./x", GIT),
        ("git~1/config", GIT),
        ("sub/GIT~2", GIT),
        ("git~1./config", GIT),
        (".git::$INDEX_ALLOCATION/config", GIT),
        ("git~1:x/config", GIT),
        ("x" * 256, LONG),
        ("é" * 128, LONG),
        ("/".join(["x" * 200] * 5), LONG),
    ],
)
def test_unsafe(path: str, words: str) -> None:
    assert words in path_problem(path)


@pytest.mark.parametrize(
    "path",
    [
        *("a.py", ".gitignore", "legit.git.py", "é/日.py", "a b.py", "*.py", ":(top)a.py", "--help", "$(id)"),
        *("sub/[x].py", "...", "a/..b", "git~x", "x" * 255, "/".join(["x" * 199] * 5)),
    ],
)
def test_safe(path: str) -> None:
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("`a/b.py`", "a/b.py"),
        ("'./a.py' ", "a.py"),
        ("././a.py", "a.py"),
        ("a\\b.py", "a/b.py"),
        ("a//b.py", "a/b.py"),
        ("C:\\x", "C:/x"),
        ("../x", "../x"),
        ("/etc/passwd", "/etc/passwd"),
        ('"/repo/tree/a/b.py", line 3, in f', "a/b.py"),
        ("a/b.py:3-9", "a/b.py"),
        ("a/b.py#L3", "a/b.py"),
        ("a/b.py#L3-L9", "a/b.py"),
        ("a/b.ts(3,9)", "a/b.ts"),
        ("a/test_b.py::TestC::test_d[1-x.y]", "a/test_b.py"),
        ("at /repo/tree/a/b.js:3:9", "a/b.js"),
        ("at Object.f (file:///repo/tree/a/b.js:3:9)", "a/b.js"),
        ("file:/repo/tree/a/b.js", "a/b.js"),
        ("--> src/lib.rs:3:9", "src/lib.rs"),
        ("pages/[id](2)/a.ts", "pages/[id](2)/a.ts"),
        ("a#b.py", "a#b.py"),
        ("", ""),
    ],
)
def test_as_models_write_it(written: str, path: str) -> None:
    assert normalised(written) == path


@pytest.mark.parametrize(
    ("place", "target", "stays"),
    [
        ("in", "pkg/a.py", True),
        ("pkg/up", "../pkg/a.py", True),
        ("gone", "pkg/none.py", True),
        ("self", ".", True),
        ("out", "../outside", False),
        ("pkg/out", "../../outside", False),
        ("back", "../tree/pkg/a.py", False),
        ("absolute", "/etc/passwd", False),
        ("around", "pkg/door/x", False),
    ],
)
def test_links(tmp_path: Path, place: str, target: str, stays: bool) -> None:
    root = tmp_path / "tree"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text("")
    (tmp_path / "outside").mkdir()
    (root / "pkg" / "door").symlink_to("../../outside")
    os.symlink(target, root / place)
    assert link_stays_within(str(root / place), str(root)) is stays
