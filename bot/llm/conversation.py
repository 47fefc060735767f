"""A conversation with a model, within its context window. All stages that need several turns use it."""

import hashlib
from collections.abc import Callable, Sequence

from bot.contracts import Model
from bot.llm.prompts import Profile, render
from bot.records import Feedback, FinishReason, Issue, Message, ModelCall, Record, Reply

OVERHEAD = 16  # tokens per message for the chat template's own marks, an upper bound
_HOTTER, _HOTTEST = 0.05, 0.9  # added to the temperature of a resampled reply, so that it differs more likely
_LEAST_REPLY = 64  # tokens; with less room, the model is not asked
_CUT = "\n[... the middle of this text is left out, it is too long ...]\n"


def derived_seed(seed: int, key: str) -> int:
    """The seed of one call, in [0, 2**31): the same when the run is resumed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4], "big") & 0x7FFF_FFFF


def opening(profile: Profile, name: str, **values: object) -> tuple[Message, ...]:
    """The first messages of a conversation: the profile's system message, if it has one, and template `name`."""
    system = render(profile, "system")
    first = Message(role="user", content=render(profile, name, **values))
    return (Message(role="system", content=system), first) if system else (first,)


class Sampling(Record):
    """How the replies of a conversation are sampled."""

    seed: int  # of the run; each call has its own, derived from it
    max_tokens: int  # of a reply
    temperature: float
    grows: bool = True  # whether replies may be longer than `max_tokens` after one was cut off
    grammar: str | None = None  # as in `ModelCall`


class Conversation:
    """The conversation of one machine with a model. Its calls are named `KEY/1`, `KEY/2`, ..."""

    def __init__(
        self,
        model: Model,
        key: str,
        messages: Sequence[Message],
        sampling: Sampling,
        others: Sequence[tuple[str, Sequence[Message]]] = (),
        tag: str = "edit",
    ) -> None:
        """`messages` are the opening, which every call begins with, and `tag` is that in which it asks for edits.

        `others` are openings of the same length that ask for the same in other tags.
        """
        self._model = model
        self._key = key
        self._messages = list(messages)
        self._opening = self._kept = len(self._messages)
        self._refusals: set[int] = set()  # places of messages that say why a reply could not be used
        self._others = list(others)
        self.tag = tag  # in which edits are asked for
        self._sampling = sampling
        self._limit = sampling.max_tokens
        self._temperature = sampling.temperature
        self.calls = 0
        self._given: set[str] = set()  # the replies so far, including those before a restart
        self.heard: Callable[[], object] = lambda: None  # called after each reply
        self.repeats = False  # whether the last reply equals an earlier one: the model does not correct itself

    @property
    def window(self) -> int:
        """Tokens that prompt and reply may have together."""
        return self._model.context_window

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    @property
    def opening(self) -> tuple[Message, ...]:
        """The messages that every call begins with."""
        return tuple(self._messages[: self._opening])

    def say(self, text: str, *, refuses: bool = False) -> None:
        """Add a user message. `refuses`: it says why the last reply could not be used, which later replies mend."""
        if refuses:
            self._refusals.add(len(self._messages))
        self._messages.append(Message(role="user", content=text))

    def keep(self) -> None:
        """Keep the last turn when the conversation restarts, if all turns before it are kept, too."""
        if len(self._messages) == self._kept + 2:
            self._kept += 2

    async def room(self) -> int:
        """Tokens that one more message may have, besides an eighth of the window for later ones; perhaps below 0."""
        sizes = await sizes_of(self._messages, self._model)
        window = self._model.context_window
        return window - window // 8 - sum(sizes) - self._limit - OVERHEAD

    def restart(self) -> None:
        """Forget all turns after what is kept. The next reply is sampled anew, with another seed and hotter."""
        del self._messages[self._kept :]
        self._refusals = {place for place in self._refusals if place < self._kept}
        self._temperature = max(self._temperature, min(_HOTTEST, self._temperature + _HOTTER))

    def reword(self) -> None:
        """Ask from now on as the next of the other openings does, if there is one."""
        if self._others:
            self.tag, opening = self._others.pop(0)
            self._messages[: self._opening] = opening

    async def ask(self) -> Reply:
        """The model's reply, added to the conversation unless it failed. Raises `EndpointError`.

        If the messages do not fit the window, turns after the opening are left out, and the model is told: replies that
        could not be used before others, and those before what is kept over restarts; of each the oldest first.
        """
        self.calls += 1
        key = f"{self._key}/{self.calls}"
        reply = await self._send(key, self._model.context_window)
        if reply.overflowed:  # the count was an estimate
            reply = await self._send(f"{key}/shorter", int(self._model.context_window * 0.7))
        self.heard()
        # Most replies that are cut off are so in their thoughts. No earlier turn is dropped for a longer reply.
        if reply.cut_off and self._sampling.grows:
            self._limit = min(2 * self._limit, max(self._limit, self._model.context_window // 2))
        self.repeats = reply.text.strip() in self._given
        self._given.add(reply.text.strip())
        if not reply.failed:
            # Some endpoints refuse an empty message of the assistant.
            self._messages.append(
                Message(role="assistant", content=reply.text.strip("\n") if reply.text.strip() else "(empty reply)")
            )
        return reply

    async def _send(self, key: str, window: int) -> Reply:
        sizes = await sizes_of(self._messages, self._model)
        size = sum(sizes)
        # A turn is a reply and the user message after it; the last always stays.
        turns = sorted(range(self._opening, len(sizes) - 2, 2), key=self._worth)
        dropped: set[int] = set()
        while size + self._sampling.max_tokens > window and len(dropped) < len(turns):
            turn = turns[len(dropped)]
            size -= sum(sizes[turn : turn + 2])
            dropped.add(turn)
        messages = [m for i, m in enumerate(self._messages) if not {i, i - 1} & dropped]
        if dropped:
            note = (
                f"({len(dropped)} earlier turns of this conversation are left out here, to fit the context window.)\n\n"
            )
            messages[-1] = messages[-1].model_copy(update={"content": note + messages[-1].content})
            size += OVERHEAD
        room = window - size
        if room < min(_LEAST_REPLY, self._sampling.max_tokens):
            why = f"the conversation's {size} tokens leave no room for a reply in {window}"
            return Reply(text=why, finish_reason=FinishReason.OVERFLOW)
        return await self._model.reply(
            ModelCall(
                key=key,
                messages=tuple(messages),
                max_tokens=min(self._limit, room),
                temperature=self._temperature,
                seed=derived_seed(self._sampling.seed, key),
                grammar=self._sampling.grammar,
            )
        )

    def _worth(self, turn: int) -> tuple[bool, bool, int]:
        """By which turns are left out, the least first."""
        return turn < self._kept, turn + 1 not in self._refusals, turn


async def fitted_issue(issue: Issue, model: Model) -> Issue:
    """The issue, shortened to a quarter of the window: first the middle of its body, then comments are left out.

    Feedback keeps up to half of that, the newest first.
    """
    limit = model.context_window // 4
    text = issue.text
    if len(text.encode()) <= limit:  # no token is shorter than a byte
        return issue
    size = await model.count_tokens(text)
    if size <= limit:
        return issue
    kept = int(len(text) * limit / size * 0.9)  # characters
    title = issue.title[: max(200, kept // 4)]
    feedback = _fitted_feedback(issue.feedback, kept // 2)
    asked = sum(len(one.body) + len(one.hunk) for one in feedback)
    body = shortened(issue.body, max(100, kept - len(title) - asked))
    room = kept - len(title) - asked - len(body)
    comments = []
    for comment in issue.comments:
        room -= len(comment.body)
        if room >= 0:
            comments.append(comment)
    return issue.model_copy(update={"title": title, "body": body, "comments": tuple(comments), "feedback": feedback})


def _fitted_feedback(feedback: Sequence[Feedback], room: int) -> tuple[Feedback, ...]:
    """The newest feedback that has room, in characters; of the first that has none, what fits of its words."""
    kept: list[Feedback] = []
    for one in reversed(feedback):
        size = len(one.body) + len(one.hunk)
        if size > room:
            kept.append(one.model_copy(update={"hunk": "", "body": shortened(one.body, max(100, room))}))
            break
        kept.append(one)
        room -= size
    return tuple(reversed(kept))


def shortened(text: str, characters: int) -> str:
    """The text, or its first two thirds and its end."""
    if len(text) <= characters:
        return text
    head = (characters - len(_CUT)) * 2 // 3
    return text[:head] + _CUT + text[len(text) - max(0, characters - len(_CUT) - head) :]


async def sizes_of(messages: Sequence[Message], model: Model) -> list[int]:
    """Tokens of each message."""
    return [await model.count_tokens(message.content) + OVERHEAD for message in messages]
