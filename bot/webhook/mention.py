"""Finds where a comment mentions our own user, as GitHub renders the comment, and what it asks for.

`@troop retry keep zero` at the start of a line is `/troop retry keep zero`; alone, or before words that are no command,
it asks for a run, as the label does. Quotes, code, links, HTML and escaped signs mention nobody.
"""

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.records import NOT_WRITTEN, Command, CommandName, Record
from bot.sanitize import clean
from bot.webhook.slash_command import SHOWN_AS_TEXT, blocks, bounded, command_of, only_item, parse, plain, written_after

_COMMANDS = frozenset(CommandName) - NOT_WRITTEN
# Escaped signs and entities stay tokens of their own, so that they can be told from plain text.
_inline = MarkdownIt("commonmark", {"html": True}).disable("text_join")


class Mention(Record):
    """A comment that mentions us. `command`: what it asks for in `/troop`'s grammar; None where it asks for a run."""

    addressed: bool  # the mention begins a line, so that what follows is said to us
    command: Command | None = None


def find(body: str, login: str) -> Mention | None:
    """The first mention that begins a line, else one within a line, else None; one that GitHub shows.

    `login`: without `[bot]`.
    """
    body = bounded(body)
    found = _find(body, login)
    if found is not None and (shown := clean(body).text) != body:
        seen = _find(shown, login)
        return found if seen is not None and _name(seen) == _name(found) else None
    return found


def _name(found: Mention) -> tuple[bool, CommandName | None]:
    return found.addressed, found.command.name if found.command else None


def _find(body: str, login: str) -> Mention | None:
    name = rf"@(?ai:{re.escape(login)}(?:\[bot\])?)"
    # More strictly than GitHub: what only looks like the login, or an address, is none.
    within = re.compile(rf"(?<![^\s(\"']){name}(?=[\s,:;!?)\"']|\.(?:\s|$)|$)")
    ends = r"(?:[ \t]*[,:])?(?:[ \t]|\.?$)"
    begins = re.compile(rf"^[ \t]*{name}{ends}")
    written_begins = re.compile(rf"^[ \t]*[*_]{{0,3}}{name}[*_]{{0,3}}{ends}", re.MULTILINE)
    written = f"@{login}".lower()
    if written not in body.lower():
        return None
    in_passing = None
    for paragraph, content, alone in _outside_quotes(body):
        if written not in content.lower():
            continue
        first = alone and written_begins.search(content)
        for line in _lines(content):
            if first and begins.match(line):
                words = begins.sub("", line).split()
                rest = written_after(body, paragraph, content, written_begins)
                return Mention(addressed=True, command=_asked(words, rest))
            if within.search(line):
                in_passing = Mention(addressed=False)
    return in_passing


def command_in(body: str, own_login: str) -> Command | None:
    """The command of a comment, written as `/troop stop` or as `@troop stop`. Without our login no mention counts."""
    command, own = parse(body), own_login.removesuffix("[bot]")
    if command is None and own and (found := find(body, own)) is not None:
        return found.command
    return command


def _asked(words: list[str], rest: str) -> Command | None:
    """The command, where the first word is one's name."""
    if not words:
        return None
    command = command_of(words, rest)
    return command if command.name is not CommandName.HELP or plain(words[0]) in _COMMANDS else None


def _outside_quotes(body: str) -> Iterator[tuple[Token, str, bool]]:
    """Every block of text outside quotes: the token that opens it, its Markdown, and whether it may address us: it is a
    paragraph by itself, or the only item of a list.
    """
    depth = 0
    tokens = blocks.parse(body)
    for i, token in enumerate(tokens):
        depth += (token.type == "blockquote_open") - (token.type == "blockquote_close")
        if token.type == "inline" and depth == 0:
            opened = tokens[i - 1]
            alone = opened.type == "paragraph_open" and (opened.level == 0 or only_item(tokens, i - 1))
            yield opened, token.content, alone


def _lines(content: str) -> list[str]:
    """The lines of a block as they are read; what is no plain text is replaced by what can't be part of a mention."""
    children: list[Token] = _inline.parseInline(content)[0].children or []
    lines, links = [""], 0
    for child in children:
        links += (child.type == "link_open") - (child.type == "link_close")
        if child.type in ("softbreak", "hardbreak"):
            lines.append("")
        elif child.type in SHOWN_AS_TEXT and not links:
            lines[-1] += child.content
        else:
            lines[-1] += "\0"
    return lines
