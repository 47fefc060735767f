"""Parses the description of a fix, and answers to what was asked of it. Pure.

<cause> what was wrong </cause>   <change> what the patch does </change>   <check> what to look at </check>
<answer number="1"> what it does about the first request </answer>
"""

import re

from bot.patch.apply import Problem
from bot.records import Description, Reply

LONGEST = 1_200  # characters of each part that are kept
_PARTS = ("cause", "change", "check")
_PART = re.compile(
    rf"^[ \t]*<({'|'.join(_PARTS)})>(.*?)(?:</\1\s*>|(?=^[ \t]*<(?:{'|'.join(_PARTS)})>)|\Z)", re.M | re.S
)
_ANSWER = re.compile(
    r"""^[ \t]*<answer number=["']?(\d{1,3})["']?>(.*?)(?:</answer\s*>|(?=^[ \t]*<answer )|\Z)""", re.M | re.S
)
_NOTHING = re.compile(r"\W*(?:nothing|none|no|n/?a|-)?\W*", re.IGNORECASE)


def parse_description(reply: Reply) -> Description | Problem:
    """The parts, each on one line; or what is missing."""
    found: dict[str, str] = {}
    for name, words in _PART.findall(reply.text.replace("\r\n", "\n")):
        said = " ".join(words.split())
        if said:
            found[name] = _cut(said)
    for name in ("cause", "change"):
        if name not in found:
            return Problem(text=f"there is no <{name}>\nWrite <{name}> and </{name}>, with some words between them.")
    check = found.get("check", "")
    return Description(
        cause=found["cause"], change=found["change"], check="" if _NOTHING.fullmatch(check.strip()) else check
    )


def parse_answers(reply: Reply) -> dict[int, str]:
    """The answers by the number of the request, each on one line; the first to each counts."""
    found: dict[int, str] = {}
    for number, words in _ANSWER.findall(reply.text.replace("\r\n", "\n")):
        if said := " ".join(words.split()):
            found.setdefault(int(number), _cut(said))
    return found


def _cut(said: str) -> str:
    return said if len(said) <= LONGEST else f"{said[:LONGEST].rsplit(' ', 1)[0]} …"
