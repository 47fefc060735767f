"""The issue that `troop solve` is given as a file, as people and editors write it."""

import re
from pathlib import Path

import click

from bot.records import Issue
from bot.sanitize import clean_issue

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^title:(.+)$", re.MULTILINE)


def text_of(path: Path) -> str:
    """The file's text, in whatever encoding editors write. Raises `click.BadParameter`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--issue") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # as editors of Windows do
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_issue(text: str) -> Issue:
    """The issue in a file: its first line is the title, a leading `#` dropped, or the `title:` of its front matter.

    Cleaned as an issue on GitHub is.
    """
    front = _FRONT_MATTER.match(text)
    named = _TITLE.search(front[1]) if front else None
    if front is not None and named is not None:
        return clean_issue(named[1].strip().strip("\"'"), text[front.end() :].strip())
    title, _, body = text.strip().partition("\n")
    return clean_issue(title.lstrip("# ").strip(), body.strip())
