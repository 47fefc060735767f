"""A conversation with a model that grows, within its window. What the machines of all stages talk through."""

import hashlib
from collections.abc import Sequence

from bot.contracts import Model
from bot.llm.prompts import Profile, render
from bot.records import FinishReason, Issue, Message, ModelCall, Reply

OVERHEAD = 16  # tokens a message for the chat template's own marks, on the careful side
_HOTTER, _HOTTEST = 0.05, 0.9  # what a reply drawn anew adds to the temperature: the same is less likely to come again
_LEAST_REPLY = 64  # tokens; with room for less there is no use in asking
_CUT = "\n[... the middle of this text is left out, it is too long ...]\n"


def derived_seed(seed: int, key: str) -> int:
    """A seed for one call, in [0, 2**31): the same for a resumed run, another for another run's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4], "big") & 0x7FFF_FFFF


def opening(profile: Profile, name: str, **values: object) -> tuple[Message, ...]:
    """What a conversation begins with: the profile's system message, if there is one, and template `name`."""
    system = render(profile, "system")
    first = Message(role="user", content=render(profile, name, **values))
    return (Message(role="system", content=system), first) if system else (first,)


class Conversation:
    """One machine's talk. `key` names it: its calls are `KEY/1`, `KEY/2`, ..."""

    def __init__(
        self,
        model: Model,
        key: str,
        messages: Sequence[Message],
        *,
        seed: int,
        max_tokens: int,
        temperature: float,
        grows: bool = True,
        grammar: str | None = None,
    ) -> None:
        """`grows`: after a reply that was cut off the next ones may be longer than `max_tokens`. `grammar`: of all
        replies, see `bot.contracts.Model`.
        """
        self._grammar = grammar
        self._model = model
        self._key = key
        self._messages = list(messages)
        self._opening = len(self._messages)
        self._seed = seed
        self._max_tokens = max_tokens
        self._limit = max_tokens
        self._grows = grows
        self._temperature = temperature
        self.calls = 0
        self._given: set[str] = set()  # the replies so far, forgotten ones too
        self.repeats = False  # whether the last reply is word for word an earlier one: it learned nothing from it

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    def say(self, text: str) -> None:
        """Add what the model is told next."""
        self._messages.append(Message(role="user", content=text))

    def restart(self) -> None:
        """Forget all turns after the opening. The next reply is drawn anew: from a seed of its own, and hotter."""
        del self._messages[self._opening :]
        self._temperature = max(self._temperature, min(_HOTTEST, self._temperature + _HOTTER))

    async def ask(self) -> Reply:
        """The model's reply, added to the conversation unless it failed. Raises `EndpointError`.

        Where all of it does not fit the window, the oldest turns after the opening are not sent, and the model is told
        so.
        """
        self.calls += 1
        key = f"{self._key}/{self.calls}"
        reply = await self._send(key, self._model.context_window)
        if reply.overflowed:  # the count was an estimate
            reply = await self._send(f"{key}/shorter", int(self._model.context_window * 0.7))
        if reply.cut_off and self._grows:  # most often by thoughts; never at the cost of what was said before
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
        sizes = [await self._model.count_tokens(message.content) + OVERHEAD for message in self._messages]
        messages, size = list(self._messages), sum(sizes)
        dropped = 0
        # A turn is a reply and what was said to it; the last words always stay.
        while size + self._max_tokens > window and len(messages) - self._opening > 2:
            size -= sum(sizes[self._opening : self._opening + 2])
            del messages[self._opening : self._opening + 2], sizes[self._opening : self._opening + 2]
            dropped += 1
        if dropped:
            note = f"({dropped} earlier turns of this conversation are left out here, for want of room.)\n\n"
            messages[-1] = messages[-1].model_copy(update={"content": note + messages[-1].content})
            size += OVERHEAD
        room = window - size
        if room < min(_LEAST_REPLY, self._max_tokens):
            why = f"the conversation's {size} tokens leave no room for a reply in {window}"
            return Reply(text=why, finish_reason=FinishReason.OVERFLOW)
        return await self._model.reply(
            ModelCall(
                key=key,
                messages=tuple(messages),
                max_tokens=min(self._limit, room),
                temperature=self._temperature,
                seed=derived_seed(self._seed, key),
                grammar=self._grammar,
            )
        )


async def fitted_issue(issue: Issue, model: Model) -> Issue:
    """The issue with the middle of its body, then its comments, left out until it takes a quarter of the window."""
    limit = model.context_window // 4
    text = issue.text
    if len(text.encode()) <= limit:  # no token is shorter than a byte
        return issue
    size = await model.count_tokens(text)
    if size <= limit:
        return issue
    kept = int(len(text) * limit / size * 0.9)  # characters
    title = issue.title[: max(200, kept // 4)]
    body = shortened(issue.body, max(100, kept - len(title)))
    room = kept - len(title) - len(body)
    comments = []
    for comment in issue.comments:
        room -= len(comment.body)
        if room >= 0:
            comments.append(comment)
    return issue.model_copy(update={"title": title, "body": body, "comments": tuple(comments)})


def shortened(text: str, characters: int) -> str:
    """The text, or its first two thirds and its end."""
    if len(text) <= characters:
        return text
    head = (characters - len(_CUT)) * 2 // 3
    return text[:head] + _CUT + text[len(text) - max(0, characters - len(_CUT) - head) :]
