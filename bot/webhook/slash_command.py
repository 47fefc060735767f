"""Finds the `/troop ...` command in a comment, as GitHub renders the comment.

A command is at the start of a line of its own, which may be bold, or the only item of a list; what follows
`/troop retry`, to the end of the comment, are words for the next fix. Commands in quotes, code (fenced, indented,
inline), HTML comments and HTML blocks are ignored; a CommonMark parser tells them apart.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.records import NOT_WRITTEN, Command, CommandName, Option
from bot.repo_config import is_base
from bot.sanitize import clean

MAX_MISREAD = 100  # characters of what is no command that are kept for the answer
MAX_WORDS = 8_000  # characters of what a fix is asked to do otherwise
MAX_COMMENT = 65_536  # characters that GitHub lets a comment have

# With what phones and keyboards make of a space, as one addresses a person (`/troop, stop`), as other bots are
# commanded (`/troop:stop`), and with a word of courtesy before it.
_LINE = re.compile(
    r"^[ \t]*[*_]{0,3}(?:(?:please|pls|plz),?[ \t]+)?/troop[*_]{0,3}(?:[,:]?(?:[ \t\u00a0]|\r|$)|:(?=[a-z]))",
    re.MULTILINE | re.IGNORECASE,
)
_NEEDS_MORE = NOT_WRITTEN | {CommandName.USE, CommandName.ANSWER}
_TICKED = re.compile(r"^- \[[xX]\] \*\*([AB])\*\*", re.MULTILINE)
_OPTION = re.compile(r"--base(?:[ \t]*=[ \t]*|[ \t]+|$|(?=\n))(\S*)")
_ENDS = ".!?,;:"  # of a sentence that is a command
_POLITE = frozenset({"please", "pls", "plz", "now", "thanks", "thank", "you", "thx"})
_EITHER = frozenset({"or", "and", "/", "vs", "b", "a"})  # after `A`, it is no choice
_REASON = frozenset({"because", "since", "as", "for"})
_EMPHASIS = re.compile(r"[ \t]*([*_]{1,3})[/@]")
_NUMBER = re.compile(r"#?([1-9][0-9]{0,3})")
# What keyboards of scripts that run from right to left, and files, begin a line with.
_MARKS = re.compile(r"^[\ufeff\u061c\u200e\u200f]+(?=[ \t]*[/@])", re.MULTILINE)
_YEAR = re.compile(r"\b20\d\d\b")
# `On 1 Jan 2026, troop[bot] <notifications@github.com> wrote:`, in any language.
_ATTRIBUTION = re.compile(r"[^>].*(?:@|20\d\d).*[:：]\s*")
SHOWN_AS_TEXT = ("text", "em_open", "em_close", "strong_open", "strong_close")
_LINES = 400  # characters of one that are looked at
_SIGNATURE = 8  # lines at most

# First blocks alone, since the cost of the inline rules grows faster than the text: only paragraphs that may have a
# command are parsed further.
blocks = MarkdownIt("commonmark", {"html": True}).enable("table").disable("inline")
_inline = MarkdownIt("commonmark", {"html": True})


def parse(body: str) -> Command | None:
    """The first command of a comment; `help` for unknown words, which it keeps; None where there is no command.

    A comment is one wish and has one answer: how many commands follow is said in it. A command that GitHub does not
    show, in a footnote that nothing refers to, say, is none.
    """
    body = bounded(body)
    command = _parse(body)
    if command is not None and (shown := clean(body).text) != body:
        seen = _parse(shown)
        return command if seen is not None and seen.name is command.name else None
    return command


def bounded(body: str) -> str:
    """As much as a comment can have, without marks of direction before a command or a mention."""
    return _MARKS.sub("", body[:MAX_COMMENT])


def _parse(body: str) -> Command | None:
    if "/troop" not in body.lower():
        return None
    tokens = blocks.parse(body)
    found: list[tuple[Token, str, str]] = []  # each line with its paragraph and that one's text
    for i, token in enumerate(tokens):
        # Level 0 excludes quotes; paragraphs exclude headings, tables, code and HTML.
        if token.type != "paragraph_open" or not (token.level == 0 or only_item(tokens, i)):
            continue
        content = tokens[i + 1].content
        if _LINE.search(content):
            found += [(token, content, line) for line in _text_lines(content) if _LINE.match(line)]
    if not found:
        return None
    (token, content, line), *others = found
    rest = written_after(body, token, content, _LINE)
    if others:  # words end where the next command begins
        rest = _LINE.split(rest)[0].strip()
    return command_of(_LINE.sub("", line).split(), rest).model_copy(update={"further": len(others)})


def only_item(tokens: list[Token], i: int) -> bool:
    """Whether the paragraph begins the only item of a list. A longer one may say what others are to do."""
    if tokens[i].level != 2 or tokens[i - 1].type != "list_item_open" or not tokens[i - 2].type.endswith("list_open"):
        return False
    end = next(n for n in range(i, len(tokens)) if tokens[n].type == "list_item_close" and tokens[n].level == 1)
    return tokens[end + 1].type.endswith("list_close")


def ticked(body: str) -> Option | None:
    """The one box that is ticked in a question of ours; None for none, and for both."""
    found = set(_TICKED.findall(body[:MAX_COMMENT]))
    return Option(found.pop()) if len(found) == 1 else None


def written_after(body: str, paragraph: Token, content: str, addressed: re.Pattern[str]) -> str:
    """What was written after the word that follows the address, to the end of the comment or of a mail's own words.

    `addressed`: how the line begins, `/troop` for one. `content`: the paragraph's, in which such a line is.
    """
    assert paragraph.map is not None, "a block has lines"
    within, line = next((n, line) for n, line in enumerate(content.split("\n")) if addressed.match(line))
    written = re.split(r"\r\n|\r|\n", body)[paragraph.map[0] + within :]
    marks = _EMPHASIS.match(line)
    first = addressed.sub("", line.rstrip()).removesuffix(marks[1] if marks else "").split(maxsplit=1)[1:]
    return "\n".join([*first, *_without_mail(written[1:])]).replace("\0", "").strip()[:MAX_WORDS]


def _without_mail(lines: list[str]) -> list[str]:
    """Without what mail programs add below: a signature, and what is answered, behind a line that says whose it is."""
    for _ in range(2):  # either may come first
        end = len(lines)
        while end and (not lines[end - 1].strip() or lines[end - 1].startswith(">")):
            end -= 1
        said = lines[max(end - 1, 0) : end]
        if end > 1 and _YEAR.search(lines[end - 2]):  # it may be wrapped
            said = lines[end - 2 : end]
        if any(line.startswith(">") for line in lines[end:]) and _ATTRIBUTION.fullmatch(" ".join(said)[-_LINES:]):
            lines = lines[: end - len(said)]
        signed = [n for n in range(max(0, len(lines) - _SIGNATURE), len(lines)) if lines[n].rstrip() == "--"]
        lines = lines[: signed[0]] if signed else lines
    return lines


def _text_lines(content: str) -> list[str]:
    """The lines of a paragraph. Code and tags are replaced by what can't be part of a command."""
    children: list[Token] = _inline.parseInline(content)[0].children or []
    lines = [""]
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            lines.append("")
        elif child.type in SHOWN_AS_TEXT:
            lines[-1] += child.content
        else:
            lines[-1] += f"\0{child.type}"  # cannot be part of a command
    return lines


def command_of(words: list[str], rest: str) -> Command:
    """The command that the words of its line say; `rest`: all that follows its name."""
    while len(words) > 1 and plain(words[0]) in _POLITE:
        words, rest = words[1:], "".join(rest.split(maxsplit=1)[1:])
    said = [plain(word) for word in words]
    while len(said) > 1 and (said[-1] in _POLITE or not any(map(str.isalnum, said[-1]))):
        said.pop()
    match said:
        case [CommandName.ANSWER, ("a" | "b"), *_] if _chosen(words[1:]):
            return Command(
                name=CommandName.ANSWER,
                option=Option(said[1].upper()),
                words="".join(rest.split(maxsplit=1)[1:]) if len(said) > 2 else "",
            )
        case [CommandName.RETRY, *_]:
            return _retry("" if len(said) == 1 and len(words) > 1 and "\n" not in rest else rest)
        case [("use" | "more") as name, number] if found := _NUMBER.fullmatch(number):
            return Command(name=CommandName(name), argument=int(found[1]))
        case [name] if name in set(CommandName) - _NEEDS_MORE:
            return Command(name=CommandName(name))
        case []:
            return Command(name=CommandName.HELP)
        case _:
            return Command(name=CommandName.HELP, misread=" ".join(words).replace("\0", "")[:MAX_MISREAD])


def plain(word: str) -> str:
    """Of a command: as it is compared."""
    return word.lower().rstrip(_ENDS)


def _chosen(words: list[str]) -> bool:
    """Whether the first of the words is a choice, and others the reason: not `A or B`, and not `a list`."""
    option, *others = words
    if not others or all(plain(word) in _POLITE for word in others):
        return True
    return plain(others[0]) not in _EITHER and (option[0].isupper() or option[-1] in _ENDS or others[0] in _REASON)


def _retry(rest: str) -> Command:
    """With the branch that `--base NAME` or `--base=NAME` names before the words."""
    found = _OPTION.match(rest)
    if found is None:
        return Command(name=CommandName.RETRY, words=rest)
    name = (found[1] or "").strip("`'\"")
    if not is_base(name):
        return Command(name=CommandName.HELP, misread=f"retry {found[0].strip()}"[:MAX_MISREAD])
    return Command(name=CommandName.RETRY, base=name, words=rest[found.end() :].strip())
