"""Reads from a reply the shell commands by which a model looks around: `<run>grep -n name pkg/*.py</run>`. Pure.

A command may have several lines. Accepted too: a code fence in or around the tags, a `$ ` before a command, several
tags on a line, a `command` attribute, a missing end tag in a reply that was not cut off. What is within a <test> or an
edit is text.
"""

import re

from bot.llm.elements import EDITS, Element, elements, finished, untagged
from bot.llm.other_forms import in_our_form
from bot.patch.entities import unescaped
from bot.patch.unified_diff import is_diff
from bot.records import Record, Reply

_OTHERS = ("test", *EDITS)
_FENCE = re.compile(r"^\s*(```|~~~)")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
_DONE = frozenset({"done", "approve"})


class Looks(Record):
    """What a reply wants to see."""

    commands: tuple[str, ...] = ()  # in order, each once
    alone: bool = True  # whether the reply holds neither an edit nor a test
    fine: bool = False  # whether it says that all is well, too
    empty: bool = False  # whether it has tags, but no command in any


def parse_looks(reply: Reply) -> Looks:
    """The commands of the reply; of one that was cut off, those that are complete."""
    text = finished(reply.text.replace("\r\n", "\n").replace("\r", "\n"), reply.cut_off)
    text = in_our_form(text, ["run", *_OTHERS])
    lines = text.split("\n")
    if "<run" not in text:
        return Looks()
    names = ("run", *_OTHERS, "done", "approve", "approved")
    found = elements(_one_a_line(lines), names, inline=False)
    if not any(element.name == "run" for element in found):
        within = elements(lines, names, inline=True)  # in prose, only what is whole is a command
        found = [e for e in within if e.name != "run" or (e.closed and len(e.lines) == 1)]
    whole = [e for e in found if e.name == "run" and (e.closed or not reply.cut_off)]
    commands = [command for command in map(_command, whole) if command]
    others = any(element.name in _OTHERS for element in found) or bool(untagged(lines)) or is_diff(lines)
    return Looks(
        commands=tuple(dict.fromkeys(commands)),
        alone=not others,
        fine=any(element.name in _DONE for element in found),
        empty=bool(whole) and not commands,
    )


def _one_a_line(lines: list[str]) -> list[str]:
    """The lines, those with several complete <run> tags split into one each."""
    out: list[str] = []
    for line in lines:
        several = line.count("<run>") > 1 and line.lstrip().startswith("<run>")
        out += re.split(r"(?<=</run>)\s*(?=<run>)", line) if several else [line]
    return out


def _command(element: Element) -> str:
    lines = [line for line in element.lines if not _FENCE.match(line)]
    while lines and not lines[0].strip():
        lines.pop(0)
    if not element.closed:  # what follows a blank line is prose
        blank = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
        lines = lines[:blank]
    shown = [line for line in lines if line.strip()]
    if shown and all(line.lstrip().startswith("$ ") for line in shown):
        lines = [line.lstrip()[2:] for line in shown]
    command = "\n".join(lines).strip() or element.attribute("command")
    # In quotes an entity may be what is looked for; outside of them a shell has no use for it.
    return unescaped(command) if unescaped(_QUOTED.sub("", command)) != _QUOTED.sub("", command) else command
