"""Each format of an edit is understood whatever was asked for, and makes what the same SEARCH/REPLACE block makes."""

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.llm.replies import Turn, parse_edit_turn
from bot.patch.apply import Patch, Problem, apply
from bot.patch.diff import file_diff
from bot.records import FinishReason, Reply

FILE = '''"""Sums."""

import os


def total(items):
    """The sum."""
    result = 1
    for item in items:
        result += item

    return result


class Box:
    def get(self):
        return 1

    def put(self, thing):
        self.thing = thing
        return 1
'''
PATHS = ("pkg/sums.py", "pkg/other.txt")
OLD, NEW = "    result = 1\n", "    result = 0\n"
FUNCTION = FILE[FILE.index("def total") : FILE.index("\n\nclass")].replace(OLD, NEW)


def made(text: str, files: dict[str, str] | None = None, *, cut_off: bool = False) -> dict[str, str | None] | Problem:
    """The files' texts after the reply, or the problem with it."""
    have = files or {"pkg/sums.py": FILE}
    end = FinishReason.LENGTH if cut_off else FinishReason.STOP
    turn = parse_edit_turn(Reply(text=text, finish_reason=end))
    if isinstance(turn, Problem):
        return turn
    patch = apply(turn.edits, have.get, paths=tuple(have))
    if isinstance(patch, Problem):
        return patch
    return {change.path: change.text for change in patch.changes}


def diff(new: str = FILE.replace(OLD, NEW), *, context: int = 3) -> str:
    lines = difflib.unified_diff(
        FILE.splitlines(True), new.splitlines(True), "a/pkg/sums.py", "b/pkg/sums.py", n=context
    )
    return "".join(lines)


REPLIES = {
    "search and replace": f'<edit path="pkg/sums.py">\n<<<<<<< SEARCH\n{OLD}=======\n{NEW}>>>>>>> REPLACE\n</edit>',
    "define": f'<define path="pkg/sums.py" name="total">\n{FUNCTION}\n</define>',
    "define, name first": f'<define name="total" path="pkg/sums.py">\n{FUNCTION}</define>',
    "define, in a fence": f'<define path="pkg/sums.py" name="sums.total">\n```python\n{FUNCTION}```\n</define>',
    "define without a name": f'Thus:\n<define path="pkg/sums.py">\n{FUNCTION}\n</define>\n<done/>',
    "define within edit": f'<edit path="pkg/sums.py">\n{FUNCTION}\n</edit>',
    "imports and a definition within edit": f'<edit path="pkg/sums.py">\nimport os\n\n{FUNCTION}\n</edit>',
    "a block within define": f'<define path="pkg/sums.py">\n<<<<<<< SEARCH\n{OLD}'
    f"=======\n{NEW}>>>>>>> REPLACE\n</define>",
    "file": f'<file path="pkg/sums.py">\n{FILE.replace(OLD, NEW)}</file>',
    "file in a fence": f'<file path="pkg/sums.py">\n```python\n{FILE.replace(OLD, NEW)}```\n</file>',
    "create over a file": f'<create path="pkg/sums.py">\n{FILE.replace(OLD, NEW)}</create>',
    "diff": f"<diff>\n{diff()}</diff>",
    "diff with a path": f'<diff path="pkg/sums.py">\n{diff()[diff().index("@@") :]}</diff>',
    "diff in a fence": f"Here:\n\n```diff\n{diff()}```\n\nThat is all.",
    "diff alone": diff(),
    "git's diff": f"<diff>\n{file_diff('pkg/sums.py', FILE, FILE.replace(OLD, NEW))}</diff>",
    "diff within edit": f'<edit path="pkg/sums.py">\n{diff()}</edit>',
    "hunks within edit": f'<edit path="pkg/sums.py">\n{diff()[diff().index("@@") :]}</edit>',
    "without a/ and b/": diff().replace("a/pkg", "pkg").replace("b/pkg", "pkg"),
    "wrong line numbers": diff().replace("@@ -5,7 +5,7 @@", "@@ -50,3 +1,9 @@"),
    "no line numbers": diff().replace("@@ -5,7 +5,7 @@", "@@"),
    "blank context without its space": diff().replace("\n \n", "\n\n"),
    "context without its space": diff().replace('\n     """The sum."""', '\n    """The sum."""'),
    "wrong context": diff().replace(" def total(items):", " def total(values):"),
    "no context": diff(context=0),
    "another tool's patch": "*** Begin Patch\n*** Update File: pkg/sums.py\n@@ def total(items):\n"
    f"-{OLD}+{NEW}*** End Patch",
}


@pytest.mark.parametrize("form", REPLIES)
def test_every_form_makes_the_same_edit(form: str) -> None:
    assert made(REPLIES[form]) == {"pkg/sums.py": FILE.replace(OLD, NEW)}


@pytest.mark.parametrize("form", REPLIES)
def test_line_endings_and_a_byte_order_mark_stay(form: str) -> None:
    dos = "\ufeff" + FILE.replace("\n", "\r\n")
    assert made(REPLIES[form], {"pkg/sums.py": dos}) == {"pkg/sums.py": dos.replace(OLD[:-1], NEW[:-1])}


@pytest.mark.parametrize("form", ["search and replace", "define", "diff"])
def test_mixed_line_endings_stay(form: str) -> None:
    mixed = FILE.replace("import os\n", "import os\r\n").replace("return result\n", "return result\r\n")
    assert made(REPLIES[form], {"pkg/sums.py": mixed}) == {"pkg/sums.py": mixed.replace(OLD, NEW)}


def test_a_diff_adds_and_removes_files() -> None:
    added = "--- /dev/null\n+++ b/pkg/new.py\n@@ -0,0 +1,2 @@\n+a = 1\n+b = 2\n"
    assert made(added) == {"pkg/new.py": "a = 1\nb = 2\n"}
    assert made(file_diff("pkg/new.py", None, "a = 1\n")) == {"pkg/new.py": "a = 1\n"}
    assert made(file_diff("pkg/sums.py", FILE, None)) == {"pkg/sums.py": None}
    assert made("*** Begin Patch\n*** Add File: n.py\n+a = 1\n*** End Patch") == {"n.py": "a = 1\n"}
    assert made("*** Begin Patch\n*** Delete File: pkg/sums.py\n*** End Patch") == {"pkg/sums.py": None}


def test_a_diff_of_two_files_and_two_hunks() -> None:
    files = {"a.txt": "one\ntwo\nthree\n" * 3, "b.txt": "x\n"}
    text = (
        "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
        "@@ -7,3 +7,3 @@\n one\n-two\n+zwei\n three\n--- a/b.txt\n+++ b/b.txt\n@@ -1 +1,2 @@\n x\n+y\n"
    )
    expected = "one\n2\nthree\none\ntwo\nthree\none\nzwei\nthree\n"
    assert made(text, files) == {"a.txt": expected, "b.txt": "x\ny\n"}
    inserted = "--- a/b.txt\n+++ b/b.txt\n@@ -1,0 +2,1 @@\n+y\n"
    assert made(inserted, files) == {"b.txt": "x\ny\n"}


def test_a_hunk_that_fits_two_places_equally_is_not_guessed() -> None:
    files = {"a.txt": "one\ntwo\n" * 2}
    problem = made("--- a/a.txt\n+++ b/a.txt\n@@ -90 +90 @@\n-two\n+2\n", files)
    assert isinstance(problem, Problem)
    assert "was found 2 times in a.txt" in problem.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("        result += item\n", "        # ... rest unchanged ...\n"), "leaves lines out: # ..."),
        (FILE[: FILE.index("class Box")] + "...\n", "leaves lines out: ..."),
        (FILE[: FILE.index("class Box")] + "# the rest of the file remains the same\n", "leaves lines out"),
        ('"""Sums."""\n\n\ndef total(items):\n    return sum(items)\n', "leaves out Box, get, put"),
        (FILE.replace("        self.thing = thing\n        return 1\n", "        ...\n"), "has no body for Box.put"),
    ],
)
def test_a_whole_file_that_leaves_something_out_is_refused(text: str, said: str) -> None:
    for tag in ("file", "create"):
        problem = made(f'<{tag} path="pkg/sums.py">\n{text}</{tag}>')
        assert isinstance(problem, Problem)
        assert said in problem.text


def test_a_whole_file_may_lose_a_function_that_nothing_uses_and_speak_of_the_rest() -> None:
    text = FILE.replace("    def get(self):\n        return 1\n\n", "").replace("1\n", "2  # the rest is for others\n")
    assert made(f'<file path="pkg/sums.py">\n{text}</file>') == {"pkg/sums.py": text}
    long = {"notes.txt": "word\n" * 60}
    assert isinstance(made('<file path="notes.txt">\nword\n</file>', long), Problem)


def test_a_file_that_is_only_repeated_beside_an_edit_is_no_edit() -> None:
    shown = f'<file path="pkg/sums.py">\n{FILE}</file>\n'
    assert made(shown + REPLIES["search and replace"]) == {"pkg/sums.py": FILE.replace(OLD, NEW)}
    part = '<file path="pkg/sums.py" excerpt="true">\ndef total(items):\n...\n</file>\n'
    assert made(part + REPLIES["define"]) == {"pkg/sums.py": FILE.replace(OLD, NEW)}


@pytest.mark.parametrize("form", REPLIES)
def test_part_of_an_edit_is_no_edit(form: str) -> None:
    text = REPLIES[form]
    assert isinstance(made(text[: len(text) * 2 // 3], cut_off=True), Problem)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_broken_replies_never_raise(data: st.DataObject) -> None:
    text = REPLIES[data.draw(st.sampled_from(sorted(REPLIES)))]
    lines = text.split("\n")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        odd = st.sampled_from(["", "@@", "--- a/x", "+++ b/x", "<define", "</file>", "\t", "...", "\ud800", "}", "'''"])
        match data.draw(st.sampled_from(["drop", "add", "cut", "twice"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "add":
                lines.insert(at, data.draw(odd | st.text(max_size=12)))
            case "cut":
                lines[at] = lines[at][: data.draw(st.integers(0, 12))]
            case _:
                lines.insert(at, lines[at])
    result = made("\n".join(lines), cut_off=data.draw(st.booleans()))
    assert isinstance(result, dict | Problem)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_diff_makes_what_it_was_made_of(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["a", "b", "  c", "d"]), min_size=1, max_size=12)
    before, after = ("\n".join([*data.draw(words), "end"]) + "\n" for _ in range(2))
    before = before.replace("a", "a1", 1)
    result = made(file_diff("x.txt", before, after), {"x.txt": before})
    if before == after:
        assert isinstance(result, Problem)
    elif not isinstance(result, Problem):  # a hunk may fit two places
        assert result == {"x.txt": after}
    turn = parse_edit_turn(Reply(text=file_diff("x.txt", before, after) or "no"))
    assert isinstance(turn, Turn | Problem)
    assert isinstance(apply((), {}.get), Problem | Patch)
