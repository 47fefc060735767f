"""Parses what the selection may reply, beyond a test and a number. Pure.

<choose>2</choose>   <choose>none</choose>, with the reason in the text around it
<test path="repro.py"> script </test>
<wrong test="T3"> why </wrong>   <show>4</show>
<parents>1, 2</parents> with <edit>, <create>, <delete>
"""

import re
from collections.abc import Iterable

from bot.llm.replies import Turn, parse_deliberation_turn
from bot.patch.apply import Problem
from bot.records import Record, Reply

REASON = 1_500  # characters of the model's reasons that are kept

_BODIES = re.compile(r"^[ \t]*<(test|edit|create)\b.*?(?:</\1\s*>|\Z)", re.MULTILINE | re.DOTALL)
_NEXT = r"(?=^[ \t]*</?(?:wrong|choose|test|edit|create|delete|show|parents)\b)|\Z"
_WRONG = re.compile(rf"^[ \t]*<wrong\b([^>\n]*)>(.*?)(?:</wrong\s*>?|{_NEXT})", re.MULTILINE | re.DOTALL)
_SHOW = re.compile(r"^[ \t]*<show\b[^>\d\n]*>?([\d, ]+)(?:\"?\s*/?>)?", re.MULTILINE)
_PARENTS = re.compile(r"^[ \t]*<parents\b[^>\n]*>([^<]*)(?:</parents\s*>?)?", re.MULTILINE)
_NONE = re.compile(
    r"^[ \t]*<choose\s*>\s*(?:none|no candidate|nothing|0)\b[^\w\n<]*+(?:\s*</choose\s*>?|$)", re.I | re.M
)
_TAG = re.compile(r"</?[a-z_]+\b[^<>\n]*>")
_NUMBER = re.compile(r"(?<!\d)\d{1,6}(?!\d)")


class Objection(Record):
    """What the model says against a test."""

    test: int  # from 1, as people know it
    why: str


class Deliberated(Record):
    """What one reply of the selection asks for. At least one field is set."""

    turn: Turn = Turn()
    objections: tuple[Objection, ...] = ()
    show: tuple[int, ...] = ()  # candidates whose diffs are asked for, each once
    parents: tuple[int, ...] = ()  # of the patch in `turn.edits`; empty: not named
    declines: bool = False  # none of the candidates
    reason: str = ""  # the plain text of the reply


def parse_deliberated(reply: Reply) -> Deliberated | Problem:
    """What the reply asks for, or what is wrong with it."""
    reply = reply.model_copy(update={"text": reply.text.replace("\r\n", "\n")})
    outside = _BODIES.sub("", reply.text)
    objections = []
    for attributes, why in _WRONG.findall(outside):
        number = _NUMBER.search(attributes)
        words = _words(why)
        if number is None:
            return Problem(text='an objection names no test\nWrite <wrong test="T1">, with a name from above.')
        if not words:
            return Problem(text=f"the objection to T{number[0]} gives no reason\nSay within <wrong> why it is wrong.")
        objections.append(Objection(test=int(number[0]), why=words))
    show = _numbers(_SHOW.findall(outside))
    declines = _NONE.search(outside) is not None
    plain = _WRONG.sub("", outside)
    rest = _NONE.sub("", _SHOW.sub("", _PARENTS.sub("", _WRONG.sub("", reply.text))))
    turn = parse_deliberation_turn(reply.model_copy(update={"text": rest}))
    if isinstance(turn, Problem):
        if not (objections or show or declines) or "<edit" in rest or "<test" in rest:
            return turn
        turn = Turn()
    return Deliberated(
        turn=turn,
        objections=tuple(objections),
        show=show,
        parents=_numbers(_PARENTS.findall(outside)),
        declines=declines and turn.choice is None,
        reason=_words(_NONE.sub("", _SHOW.sub("", _PARENTS.sub("", plain)))),
    )


def _numbers(texts: Iterable[str]) -> tuple[int, ...]:
    """The numbers in the texts, each once."""
    return tuple(dict.fromkeys(int(number) for text in texts for number in _NUMBER.findall(text)))


def _words(text: str) -> str:
    """Prose on one line, without tags, its end where it is long."""
    return " ".join(_TAG.sub(" ", text).split())[-REASON:]
