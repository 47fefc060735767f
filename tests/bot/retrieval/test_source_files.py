from pathlib import Path

import pytest

from bot.patch.reader import Unreadable, checkout_reader, is_executable
from bot.retrieval import source_files
from bot.retrieval.source_files import decoded, find_sources, is_source, is_test_material
from tests.checkouts import checkout_of


@pytest.mark.parametrize(
    "path",
    [
        "a.py",
        "src/lib.rs",
        "cmd/build/main.go",
        "web/App.vue",
        "Makefile",
        "django/testing.py",
        "lib/latest.rb",
        "a.sql",
    ],
)
def test_source(path: str) -> None:
    assert is_source(path)


@pytest.mark.parametrize(
    "path",
    ["README.md", "data.csv", "node_modules/a/index.js", "dist/a.js", "src/third_party/a.c", "a.png", "LICENSE"],
)
def test_no_source(path: str) -> None:
    assert not is_source(path)


@pytest.mark.parametrize(
    "path",
    [
        "tests/a.py",
        "pkg/test/b.py",
        "test_a.py",
        "a_test.go",
        "conftest.py",
        "a.spec.ts",
        "ATest.java",
        "x/__tests__/a.js",
        "t/basic.pl",
        "check.bats",
        "tests.py",
        "web/Button.stories.tsx",
    ],
)
def test_tests(path: str) -> None:
    assert is_test_material(path)


def test_an_exclusion_that_a_backtracking_matcher_would_never_finish(tmp_path: Path) -> None:
    (tmp_path / ("a" * 200 + ".py")).write_text("x = 1\n")
    found = find_sources(checkout_of(tmp_path), exclude=["a*" * 40 + "b", "**/a" * 20])
    assert len(found) == 1


@pytest.mark.parametrize("pattern", ["docs/**", "docs", "docs/", "d*/*", "*.py"])
def test_exclusions(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "deep" / "conf.py").write_text("x = 1\n")
    (tmp_path / "doc.js").write_text("x()\n")
    assert [file.path for file in find_sources(checkout_of(tmp_path), exclude=[pattern])] == ["doc.js"]


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of which 200 bytes are read."""
    monkeypatch.setattr(source_files, "MAX_TOTAL", 200)
    for path, text in {
        "a.py": "def first():\n    return total\n" + "#" * 120,
        "b.py": "def second():\n    return total\n" + "#" * 120,
        "tools/deep/down/parser.py": "class Counts:\n    total = 1\n",
        "tools/deep/down/printer.py": "import parser\n",
        "tools/named/far/below.py": "x = 1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("issue", "read"),
    [
        ("`Counts.total` is wrong", {"a.py", "tools/deep/down/parser.py", "tools/deep/down/printer.py"}),
        ("wrong in tools/named/far/below.py and first()", {"a.py", "tools/named/far/below.py"}),
        ("the printer", {"a.py", "tools/deep/down/printer.py", "tools/deep/down/parser.py"}),
        ("", {"a.py", "tools/deep/down/parser.py", "tools/deep/down/printer.py"}),
    ],
)
def test_of_a_repository_that_is_too_large_the_likeliest_files_are_read(
    large: Path, issue: str, read: set[str]
) -> None:
    found = {file.path for file in find_sources(checkout_of(large), issue)}
    assert read <= found
    assert "b.py" not in found


def test_a_large_file_of_people_is_read_and_a_huge_one_is_not(tmp_path: Path) -> None:
    """As TypeScript's checker, or SQLite in one file."""
    line = "function check(node) { return node; }\n"
    (tmp_path / "checker.ts").write_text(line * (3_000_000 // len(line)))
    (tmp_path / "huge.ts").write_text(line * (source_files.MAX_BYTES // len(line) + 1))
    assert [file.path for file in find_sources(checkout_of(tmp_path))] == ["checker.ts"]


def test_decoded() -> None:
    assert decoded("ä\r\n".encode()) == "ä\r\n"
    assert decoded("José\n".encode("latin-1")) == "José\n"
    assert decoded(b"a\0b") is None
    assert decoded(bytes(range(128, 160)) * 9) is None
    assert decoded(b"") == ""


def test_reading_for_edits(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/a.txt").write_bytes(b"a\r\n")
    (tmp_path / "blob").write_bytes(b"\0")
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "control").write_bytes(bytes(range(128, 160)) * 9)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "huge").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(50_000_000)
    (tmp_path / "run").write_text("x")
    (tmp_path / "run").chmod(0o755)
    read = checkout_reader(tmp_path)
    assert read("dir/a.txt") == "a\r\n"
    assert read("latin") == "\xe9"
    assert read("none") is None
    assert read("dir/none/none") is None
    assert read("dir/a.txt/none") is None
    for path, said in [
        ("dir", "is a folder"),
        ("blob", "is binary"),
        ("control", "is binary"),
        ("link", "behind a symbolic link"),
        ("out/passwd", "behind a symbolic link"),
        ("huge", "is too large"),
    ]:
        with pytest.raises(Unreadable, match=said):
            read(path)
    executable = is_executable(tmp_path)
    assert (executable("run"), executable("dir/a.txt")) == (True, False)
