"""What a model was asked and what it replied, written into a run's journal and read back.

Of each prompt what is new since an earlier one is stored. The openings of a run's conversations begin alike over the
whole context and differ behind it, so a long message names the stored text that it begins with.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

from bot.contracts import Journal
from bot.records import Message, Record, Reply

SHOWN = ("trajectory/", "selection/")  # keys of the calls whose prompts are stored
PROMPTS = ("prompt/", "text/")  # keys of the journal's entries that hold them
_DEPTH = 1000  # parts of a prompt
_LONG = 1000  # characters from which on a beginning is stored apart


class Part(Record):
    """A message as it is stored: the first `same` characters of a stored text, and its own."""

    role: str
    text: str
    base: str = ""  # digest of the stored text; "": none
    same: int = 0


class Prompt(Record):
    """A prompt as it is stored: the messages of an earlier one, then its own."""

    before: str  # digest of the earlier one; "": none
    messages: tuple[Part, ...]


class Shown(Record):
    """A message for people."""

    role: str
    shared: str = ""  # its beginning, which other conversations have, too
    text: str  # the rest
    base: str = ""  # names the text that `shared` is the beginning of


class Exchange(Record):
    """One call."""

    key: str  # e.g. `trajectory/3/edit/2`
    messages: tuple[Shown, ...]  # what is new since the exchange before, without its reply
    reply: Reply
    known: bool = True  # False: the prompt was not stored, as by earlier versions


def digest_of(messages: Sequence[Message]) -> str:
    """Names a prompt."""
    return hashlib.sha256(json.dumps([m.model_dump() for m in messages]).encode()).hexdigest()[:12]


class PromptWriter:
    """Stores the prompts of one run."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ends: dict[bytes, str] = {}  # of each stored prompt: the hash of its text, and its digest
        self._texts: dict[str, str] = {}  # by digest: beginnings that are stored

    async def store(self, messages: Sequence[Message], digest: str) -> None:
        """`digest`: of all of them (`digest_of`). Safe to call twice. Raises what the journal raises."""
        before, known, mark = "", 0, b""
        rolling = hashlib.sha256()  # read once, however many turns there are: a prompt may have megabytes
        for number, message in enumerate(messages, start=1):
            rolling.update(f"{message.role}\0{message.content}\0".encode("utf-8", "surrogatepass"))
            mark = rolling.digest()
            if mark in self._ends:
                before, known = self._ends[mark], number
        if known == len(messages):
            return
        parts = [await self._part(message, opens=not known) for message in messages[known:]]
        prompt = Prompt(before=before, messages=tuple(parts))
        await self._journal.put(f"prompt/{digest}", prompt.model_dump_json())
        self._ends[mark] = digest

    async def _part(self, message: Message, *, opens: bool) -> Part:
        """`opens`: it is of a conversation's opening, which others may begin with, too."""
        text = message.content
        if not opens or len(text) < _LONG:
            return Part(role=message.role, text=text)
        shared = {base: _same(text, stored) for base, stored in self._texts.items()}
        best = max(shared, key=shared.__getitem__, default="")
        if not best or shared[best] < _LONG:
            best = hashlib.sha256(text.encode()).hexdigest()[:12]
            await self._journal.put(f"text/{best}", json.dumps(text))
            self._texts[best] = text
            shared[best] = len(text)
        return Part(role=message.role, text=text[shared[best] :], base=best, same=shared[best])


def _same(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


Get = Callable[[str], str | None]


def transcript(name: str, keys: Iterable[str], get: Get) -> tuple[Exchange, ...]:
    """The calls whose key begins with `name`, such as `trajectory/3/`, in their order.

    `keys`: of the journal, in the order in which they were stored; `get`: an entry.
    """
    begins = f"model/{name}"
    exchanges: list[Exchange] = []
    seen: tuple[Part, ...] = ()
    for entry in keys:
        stored = get(entry) if entry.startswith(begins) else None
        if stored is None:
            continue
        call, _, digest = entry.removeprefix("model/").rpartition("/")
        prompt = _prompt(digest, get)
        common = _common(seen, prompt or ())
        news = (prompt or ())[common:]
        if common and len(news) > 1 and news[0].role == "assistant":
            news = news[1:]  # the reply of the exchange before, which is shown there
        messages = tuple(_shown(part, get) for part in news)
        reply = Reply.model_validate_json(stored)
        exchanges.append(Exchange(key=call, messages=messages, reply=reply, known=prompt is not None))
        seen = prompt or seen
    return tuple(exchanges)


def _prompt(digest: str, get: Get) -> tuple[Part, ...] | None:
    """All messages of a prompt; None where one is missing."""
    parts: list[tuple[Part, ...]] = []
    while digest:
        stored = get(f"prompt/{digest}")
        if stored is None or len(parts) >= _DEPTH:
            return None
        prompt = Prompt.model_validate_json(stored)
        parts.append(prompt.messages)
        digest = prompt.before
    return tuple(part for messages in reversed(parts) for part in messages)


def _shown(part: Part, get: Get) -> Shown:
    base = get(f"text/{part.base}") if part.base else None
    shared = json.loads(base)[: part.same] if base else ""
    return Shown(role=part.role, shared=shared, text=part.text, base=part.base)


def _common(one: Sequence[Part], other: Sequence[Part]) -> int:
    """How many messages both begin with."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
