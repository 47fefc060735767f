import subprocess
from pathlib import Path

import pytest

from tests.bench.bench_retrieval import Fix, History, places

NOTE = "`wrap_lines()` loses the last line of what it is given.\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Two fixes: one with a change note, one with a message alone; and a commit that changes no source."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "notes").mkdir()
    for message, texts in [
        ("first", {"lines.py": "def wrap_lines(text):\n    return 1\n", "colors.py": "def paint():\n    pass\n"}),
        ("fix", {"lines.py": "def wrap_lines(text):\n    return 2\n", "notes/1.md": NOTE}),
        ("words", {"notes/2.md": "words\n"}),
        ("Paint what is to be painted, and all of it: paint", {"colors.py": "def paint():\n    return 1\n"}),
    ]:
        for path, text in texts.items():
            (tmp_path / path).write_text(text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", message], check=True)
    return tmp_path


def test_the_issue_is_the_note_or_the_message_and_the_files_are_those_before(clone: Path) -> None:
    (noted,) = History(clone, "notes/*.md").fixes()
    assert (noted.issue, noted.changed) == (NOTE, ["lines.py"])
    assert dict(noted.files)["lines.py"].endswith("return 1\n")
    (told,) = History(clone, "").fixes()
    assert told.issue.startswith("Paint what is")
    assert places(noted) == places(told) == {"ours": 1, "BM25": 1}


def test_the_baseline_counts_rare_words_in_short_files_most() -> None:
    fix = Fix("`paint` the line", [("a.py", "line " * 9), ("b.py", "line paint"), ("c.py", "line")], ["b.py"])
    assert places(fix) == {"ours": 1, "BM25": 1}
