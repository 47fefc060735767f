"""Counted words, durations, and the small pieces of Markdown that several messages have."""

import re
from collections.abc import Sequence
from html import escape

from bot.sanitize import neutralize


def counted(n: int, noun: str, plural: str = "") -> str:
    """`1 vote`, `2 votes`; a noun in -y after a consonant needs its `plural`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def tests_or_examples(n: int) -> str:
    """What a candidate breaks of the repository's own."""
    return counted(n, "test or example", "tests or examples")


def verb(n: int, singular: str, plural: str) -> str:
    """The form that goes with so many."""
    return singular if n == 1 else plural


def listed(words: Sequence[object]) -> str:
    """`1`, `1 and 2`, `1, 2 and 3`."""
    *head, last = map(str, words)
    return f"{', '.join(head)} and {last}" if head else last


def duration(seconds: float) -> str:
    """`8 s`, `4 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cut(text: str, limit: int) -> str:
    """At most so many characters, cut between words: the forge redacts what it is given, and finds no half a secret.

    A secret is printable ASCII; scripts that put no spaces between words are cut anywhere.
    """
    if len(text) <= limit:
        return text
    return _ASCII_WORD.sub("", text[: max(limit - 1, 0)]).rstrip() + "…"


_ASCII_WORD = re.compile(r"[!-~]+\Z")


def one_line(text: str) -> str:
    """Prose on one line, harmless."""
    return neutralize(" ".join(text.split()))


def in_brief(text: str, limit: int = 500) -> str:
    """The same at most so long and without its full stop, to go into a sentence."""
    return one_line(cut(text, limit)).rstrip(".")


def quoted(text: str) -> str:
    """Prose as a Markdown quotation, harmless."""
    return "\n".join(f"> {line}".rstrip() for line in neutralize(text).split("\n"))


def folded(summary_html: str, inside: str) -> str:
    """A fold. The summary is HTML, already escaped."""
    return f"<details>\n<summary>{summary_html}</summary>\n\n{inside}\n\n</details>"


def code_html(text: str, limit: int = 120) -> str:
    """Code for a fold's summary, where Markdown means nothing. GitHub looks for no mentions in code."""
    text = " ".join(text.split())
    return f"<code>{escape(text[:limit] + ('…' if len(text) > limit else ''))}</code>"
