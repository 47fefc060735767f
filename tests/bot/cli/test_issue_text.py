from pathlib import Path

import click
import pytest

from bot.cli.issue_text import read_issue, text_of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_encodings_of_editors(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "issue.md"
    path.write_bytes("# Café is wrong\r\n\r\nIt says cafe.\r\n".encode(encoding))
    found = read_issue(text_of(path))
    assert (found.title, found.body) == ("Café is wrong", "It says cafe.")


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match="Is a directory"):
        text_of(tmp_path)


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("\n\n# It is wrong\n\nSee.", "It is wrong", "See."),
        ('---\nname: Bug\ntitle: "a: b"\nlabels: [x]\n---\n\nSee.', "a: b", "See."),
        ("---\r\ntitle: It is wrong\r\n---\r\nSee.", "It is wrong", "See."),
        ("---\nIt is wrong\n---\nSee.", "---", "It is wrong\n---\nSee."),
        ("It is wrong\n---\ntitle: x\n---", "It is wrong", "---\ntitle: x\n---"),
    ],
)
def test_the_title(text: str, title: str, body: str) -> None:
    found = read_issue(text)
    assert (found.title, found.body) == (title, body)
