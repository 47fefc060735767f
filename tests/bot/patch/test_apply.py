import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.llm.replies import Turn, parse_edit_turn
from bot.patch.apply import Block, Create, Delete, FileEdit, Problem, Redefine, Replace, apply, apply_onto
from bot.patch.reader import Unreadable
from bot.records import FileChange, Patch, Reply

MOD = "import os\n\n\ndef f(a):\n    if a:\n        return 1\n    return 2\n\n\ndef g(a):\n    return 2\n"
FILES = {"pkg/mod.py": MOD, "data.txt": "one\ntwo\nthree", "dos.txt": "a\r\nb\r\nc\r\n", "empty.txt": ""}


def replace(path: str, *pairs: tuple[str, str]) -> Replace:
    return Replace(path=path, blocks=tuple(Block(search=a, replace=b, line=i + 1) for i, (a, b) in enumerate(pairs)))


def run(*edits: FileEdit, files: Mapping[str, str] = FILES) -> Patch | Problem:
    return apply(edits, files.get, paths=tuple(files))


def text_after(*edits: FileEdit, files: Mapping[str, str] = FILES) -> str:
    patch = run(*edits, files=files)
    assert isinstance(patch, Patch), patch
    (change,) = patch.changes
    assert change.text is not None
    return change.text


def problem(*edits: FileEdit, files: Mapping[str, str] = FILES) -> str:
    found = run(*edits, files=files)
    assert isinstance(found, Problem), found
    return found.text


# -- where SEARCH matches --------------------------------------------------------------------------------------------


def test_one_line() -> None:
    assert text_after(replace("pkg/mod.py", ("        return 1", "        return 3"))) == MOD.replace("1", "3")


@pytest.mark.parametrize(
    ("search", "new", "changed"),
    [
        ("    if a:   \n        return 1", "    if not a:\n        return 1", ("if a:", "if not a:")),  # trailing space
        ("if a:\n    return 1", "if not a:\n    return 1", ("if a:", "if not a:")),  # shifted as a whole
        (
            "            if a:\n                return 1",
            "            if not a:\n                return 1",
            ("if a:", "if not a:"),
        ),
        (
            "\n    if a:\n        return 1\n",
            "\n    if not a:\n        return 1\n",
            ("if a:", "if not a:"),
        ),  # blank ends
    ],
)
def test_white_space_is_forgiven_where_the_place_is_the_only_one(
    search: str, new: str, changed: tuple[str, str]
) -> None:
    assert text_after(replace("pkg/mod.py", (search, new))) == MOD.replace(*changed)


def test_indentation_that_is_not_uniform_is_not_forgiven() -> None:
    said = problem(replace("pkg/mod.py", ("    if a:\n    return 1", "x")))
    assert said.startswith("SEARCH text was not found in pkg/mod.py\nOnly white space or indentation differs.")
    assert "    5 |     if a:\n    6 |         return 1" in said


def test_not_found_shows_the_closest_lines() -> None:
    said = problem(replace("pkg/mod.py", ("    if a:\n        return one", "x")))
    assert said.split("\n")[0] == "SEARCH text was not found in pkg/mod.py"
    assert "(block 1, line 1 of your reply)" in said
    assert "5 |     if a:" in said
    assert "Only white space" not in said


def test_not_found_at_all() -> None:
    assert "None of its lines is in the file" in problem(replace("pkg/mod.py", ("zzz", "x")))


def test_found_several_times() -> None:
    said = problem(replace("pkg/mod.py", ("    return 2", "    return 3")))
    assert said.startswith("SEARCH text was found 2 times in pkg/mod.py")
    assert "lines 7, 11" in said


def test_empty_search() -> None:
    assert problem(replace("pkg/mod.py", ("", "x"))).startswith("SEARCH text is empty")
    assert text_after(replace("empty.txt", ("", "x"))) == "x\n"
    assert text_after(replace("new.txt", ("", "x"))) == "x\n"


# -- several blocks --------------------------------------------------------------------------------------------------


def test_blocks_in_any_order_refer_to_the_original() -> None:
    edit = replace("pkg/mod.py", ("def g(a):\n    return 2", "def g(a):\n    return 5"), ("def f(a):", "def f(a, b):"))
    assert text_after(edit) == MOD.replace("f(a)", "f(a, b)").replace("g(a):\n    return 2", "g(a):\n    return 5")


def test_a_block_may_build_on_an_earlier_one() -> None:
    assert text_after(replace("data.txt", ("one", "ONE"), ("ONE\ntwo", "1\n2"))) == "1\n2\nthree"


def test_the_same_search_twice_is_a_draft_and_its_correction() -> None:
    assert text_after(replace("data.txt", ("two", "2")), replace("./data.txt", ("two", "II"))) == "one\nII\nthree"


def test_several_files_are_sorted() -> None:
    patch = run(Delete(path="data.txt"), Create(path="a.txt", text="x"), replace("dos.txt", ("b", "B")))
    assert isinstance(patch, Patch)
    assert patch.paths == ("a.txt", "data.txt", "dos.txt")
    assert patch.changes[1] == FileChange(path="data.txt", text=None)


# -- what a file is made of ------------------------------------------------------------------------------------------


def test_line_endings_are_kept() -> None:
    assert text_after(replace("dos.txt", ("b", "B\nBB"))) == "a\r\nB\r\nBB\r\nc\r\n"
    assert text_after(Create(path="dos.txt", text="x\ny")) == "x\r\ny\r\n"
    mixed = {"m": "a\r\nb\nc\r\nd\n"}
    assert text_after(replace("m", ("b", "B")), files=mixed) == "a\r\nB\nc\r\nd\n"


def test_a_missing_final_newline_is_kept() -> None:
    assert text_after(replace("data.txt", ("two", "2"))) == "one\n2\nthree"
    assert text_after(replace("data.txt", ("three", "3"))) == "one\ntwo\n3"


def test_lines_end_at_line_feeds_only() -> None:
    files = {"f": "a\x0cb\u2028c\nd\n"}
    assert text_after(replace("f", ("a\x0cb\u2028c", "x")), files=files) == "x\nd\n"


def test_removing_lines() -> None:
    assert text_after(replace("data.txt", ("two", ""))) == "one\nthree"


def test_a_new_script_may_be_executed() -> None:
    patch = run(Create(path="run.sh", text="#!/bin/sh\n"))
    assert isinstance(patch, Patch)
    assert patch.changes[0].executable
    assert "new file mode 100755" in patch.diff


# -- what is refused -------------------------------------------------------------------------------------------------


def test_nothing_changes() -> None:
    assert problem(replace("data.txt", ("two", "two"))).split("\n")[0] == "the edit changes nothing"
    assert problem().startswith("the edit changes nothing")


def test_a_file_that_is_not_there() -> None:
    said = problem(replace("src/mod.py", ("a", "b")))
    assert said.startswith("there is no file src/mod.py\nDid you mean pkg/mod.py?")
    assert "there is no file gone" in problem(Delete(path="gone"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "not relative"),
        ("../x", "not a plain path"),
        ("a/../../x", "not a plain path"),
        ("C:\\x", "not relative"),
        (".git/hooks/pre-commit", "is in git's own folder"),
        ("sub/.GIT/config", "is in git's own folder"),
        (".git./config", "is in git's own folder"),
        ("", "not relative"),
        ("a\nb", "can't be printed"),
        ("a\x07b", "can't be printed"),
    ],
)
def test_paths_that_are_refused(path: str, said: str) -> None:
    assert said in problem(Create(path=path, text="x"))


def test_what_can_not_be_read_can_not_be_edited() -> None:
    def read(path: str) -> str | None:
        raise Unreadable("is a symbolic link")

    found = apply([replace("x", ("a", "b"))], read)
    assert found == Problem(text="x is a symbolic link and can't be edited")


@pytest.mark.parametrize(
    ("path", "text"), [("a.py", "def f(:\n"), ("a.json", "{,}"), ("a.toml", "a = = 1"), ("a.pyi", "class :")]
)
def test_a_file_must_still_parse(path: str, text: str) -> None:
    assert f"{path} would no longer parse" in problem(Create(path=path, text=text))
    already = {path: f"{text}\n{text}"}
    assert text_after(Create(path=path, text=text), files=already)  # it did not parse before: not the edit's fault


def test_a_syntax_error_is_shown_with_its_line() -> None:
    said = problem(replace("pkg/mod.py", ("        return 1", "        return (1")))
    assert ">    6 |         return (1" in said


def test_warnings_of_the_repository_stay_silent() -> None:
    assert text_after(Create(path="w.py", text='x = "\\d"\nassert (1, 2)\n1 is 1\n'))


# -- git takes the diff ----------------------------------------------------------------------------------------------


def git_apply(root: Path, before: Mapping[str, str], patch: Patch) -> dict[str, str]:
    """The folder's files after real git applied the diff."""
    root.mkdir(exist_ok=True)
    for path, text in before.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        cwd=root,
        input=patch.diff.encode(),
        check=True,
        capture_output=True,
    )
    return {p.relative_to(root).as_posix(): p.read_bytes().decode() for p in root.rglob("*") if p.is_file()}


def expected(before: Mapping[str, str], patch: Patch) -> dict[str, str]:
    after = {**before, **{c.path: c.text for c in patch.changes}}
    return {path: text for path, text in after.items() if text is not None}


@pytest.mark.parametrize(
    "edits",
    [
        [replace("pkg/mod.py", ("        return 1", "        return 3"))],
        [replace("data.txt", ("three", "3"))],
        [replace("data.txt", ("one", "1"))],
        [replace("dos.txt", ("b", "B\nBB"))],
        [Create(path="new/dir/x.py", text="x = 1")],
        [Create(path="void.txt", text="")],
        [Create(path="empty.txt", text="x")],
        [Create(path="data.txt", text="")],
        [Delete(path="data.txt")],
        [Delete(path="empty.txt")],
        [
            Create(path="with space.txt", text="x"),
            Create(path='qu"ote.txt', text="y"),
            Create(path="ä/ö.txt", text="z"),
        ],
        [Delete(path="pkg/mod.py"), Create(path="pkg/mod2.py", text=MOD), replace("dos.txt", ("a\nb\nc", "x"))],
    ],
)
def test_git_apply_takes_the_diff(tmp_path: Path, edits: list[FileEdit]) -> None:
    patch = run(*edits)
    assert isinstance(patch, Patch)
    assert git_apply(tmp_path, FILES, patch) == expected(FILES, patch)


_TEXT = st.lists(
    st.sampled_from(["a", "b", "  c", "", "d e", "ü", "-x", "+y", "@@ -1 +1 @@", "\\ no", "\x0c"]), max_size=12
)


@settings(deadline=None, max_examples=40)
@given(_TEXT, _TEXT, st.booleans(), st.booleans())
def test_git_apply_takes_any_diff(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str], ended: bool, dos: bool
) -> None:
    before = "\n".join(old) + ("\n" if ended and old else "")
    before = before.replace("\n", "\r\n") if dos else before
    files = {"f.txt": before}
    patch = apply([Create(path="f.txt", text="\n".join(new))], files.get)
    if isinstance(patch, Patch):
        assert git_apply(tmp_path_factory.mktemp("repo"), files, patch) == expected(files, patch)


@given(st.lists(st.sampled_from(["a", " b", "  c", "", "d  "]), max_size=12), st.data())
def test_a_place_is_found_only_where_it_is_the_only_one(lines: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, max(0, len(lines) - 1)))
    search = lines[start : start + data.draw(st.integers(1, 3))]
    found = apply([replace("f", ("\n".join(search), "NEW"))], {"f": "\n".join(lines)}.get)
    places = [i for i in range(len(lines)) if lines[i : i + len(search)] == search]
    if len(places) == 1 and any(line.strip() for line in search):
        assert isinstance(found, Patch)
        assert found.changes[0].text == "\n".join([*lines[:start], "NEW", *lines[start + len(search) :]])
    elif any(line.strip() for line in search):
        assert isinstance(found, Problem)


def test_a_divider_within_search_or_replace_is_told_by_the_file() -> None:
    files = {"doc.rst": "Title\n=======\n\nText\n", "plain.rst": "Title\nText\n"}
    reply = Reply(
        text='<edit path="doc.rst">\n<<<<<<< SEARCH\nTitle\n=======\n\n=======\nHeading\n=======\n\n'
        ">>>>>>> REPLACE\n</edit>\n"
        '<edit path="plain.rst">\n<<<<<<< SEARCH\nTitle\n=======\nTitle\n=======\n>>>>>>> REPLACE\n</edit>'
    )
    turn = parse_edit_turn(reply)
    assert isinstance(turn, Turn)
    patch = apply(turn.edits, files.get)
    assert isinstance(patch, Patch)
    after = {change.path: change.text for change in patch.changes}
    assert after == {"doc.rst": "Heading\n=======\n\nText\n", "plain.rst": "Title\n=======\nText\n"}


def test_edits_on_top_of_an_earlier_patch() -> None:
    files = {"a.py": "x = 1\ny = 2\n", "b.py": "z = 3\n"}

    def block(search: str, replace: str, path: str = "a.py") -> Replace:
        return Replace(path=path, blocks=(Block(search=search, replace=replace),))

    earlier = apply([block("x = 1", "x = 10"), Delete(path="b.py")], files.get)
    assert isinstance(earlier, Patch)
    both = apply_onto(earlier, [block("x = 10", "x = 11"), Create(path="c.py", text="w = 4")], files.get)
    assert isinstance(both, Patch)
    assert {c.path: c.text for c in both.changes} == {"a.py": "x = 11\ny = 2\n", "b.py": None, "c.py": "w = 4\n"}
    assert "-x = 1\n+x = 11\n" in both.diff
    back = apply_onto(earlier, [block("x = 10", "x = 1"), Create(path="b.py", text="z = 3\n")], files.get)
    assert isinstance(back, Problem)
    assert "undoes" in back.text
    assert isinstance(apply_onto(earlier, [block("x = 1", "x = 2")], files.get), Problem)


# -- byte order marks and paths ----------------------------------------------------------------------------------------


BOM = "\ufeff"


@pytest.mark.parametrize(
    "edit",
    [
        replace("m.py", ("import os", "import re")),
        replace("m.py", (f"{BOM}import os", f"{BOM}import re")),
        replace("m.py", (f"{BOM}import os", "import re")),
        Create(path="m.py", text="import re\n\n\ndef f():\n    return 1\n"),
        Create(path="m.py", text=f"{BOM}import re\n\n\ndef f():\n    return 1\n"),
    ],
)
def test_a_byte_order_mark_is_kept(edit: FileEdit) -> None:
    files = {"m.py": f"{BOM}import os\n\n\ndef f():\n    return 1\n"}
    assert text_after(edit, files=files) == files["m.py"].replace("import os", "import re")
    without = {"m.py": files["m.py"].removeprefix(BOM)}
    assert text_after(edit, files=without) == without["m.py"].replace("import os", "import re"), "none is added"


def test_a_definition_behind_a_byte_order_mark_is_found() -> None:
    files = {"m.py": f"{BOM}def f():\n    return 1\n"}
    edit = Redefine(path="m.py", text="def f():\n    return 2")
    assert text_after(edit, files=files) == f"{BOM}def f():\n    return 2\n"


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/troop/repo/pkg/mod.py",
        "/repo/tree/pkg/mod.py",
        "/var/lib/troop/slot-1/job-0a1b2c3d/repo/pkg/mod.py",
        "/repo/pkg/mod.py",
        "/usr/lib/python3/site-packages/pkg/mod.py",
        "pkg/mod.py:4",
        "/tmp/troop/repo/pkg/mod.py:4:9",
        'File "/tmp/troop/repo/pkg/mod.py", line 4, in f',
        "(/tmp/troop/repo/pkg/mod.py:4:9)",
        "file:///tmp/troop/repo/pkg/mod.py:4",
        "/tmp/troop/repo/pkg/mod.py:4 +0x1d",
        "a/pkg/mod.py",
        "b/pkg/mod.py",
    ],
)
def test_paths_as_tracebacks_and_diffs_print_them(path: str) -> None:
    patch = run(replace(path, ("        return 1", "        return 3")))
    assert isinstance(patch, Patch), patch
    assert patch.paths == ("pkg/mod.py",)


def test_a_new_file_below_the_sandboxes_root() -> None:
    patch = run(Create(path="/tmp/troop/repo/pkg/new.py", text="x = 1\n"))
    assert isinstance(patch, Patch), patch
    assert patch.paths == ("pkg/new.py",)


@pytest.mark.parametrize("path", ["/tmp/troop/repo/../x", "/tmp/troop/repo/.git/config", "/tmp/x.py"])
def test_unsafe_paths_below_the_sandboxes_root_are_refused(path: str) -> None:
    assert "the path " in problem(Create(path=path, text="x\n"))
