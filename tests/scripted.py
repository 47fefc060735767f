"""The one scripted model in process. As an OpenAI-compatible HTTP server it is in `tests.scripted_endpoint`.

A script is a callable `reply(key, messages) -> str | Reply`. Keys, as the stages name their calls:

    relevance/PATH   ranking/N   trajectory/I/test/N   trajectory/I/edit/N   selection/N       (I from 0, N from 1)

`rules` makes a script out of (pattern, replies) pairs; `load` takes one from a file.
"""

import asyncio
import enum
import json
import re
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

from bot.records import FinishReason, Message, ModelCall, Reply, Usage

Script = Callable[[str, Sequence[Message]], str | Reply]

GARBAGE = "%% lorem } <<< ipsum ```dolor</ <edit <test\x07 42 ]]>"


class Mode(enum.StrEnum):
    """How the endpoint behaves."""

    NORMAL = "normal"
    GARBAGE = "garbage"  # text that means nothing
    EMPTY = "empty"  # an empty reply
    NULL = "null"  # content null and no choices at all, in turn
    MALFORMED = "malformed"  # 200 with a body that is not JSON
    HANG = "hang"  # never answers
    DROP = "drop"  # closes the connection without an answer
    ERROR = "error"  # 500
    RATE_LIMITED = "rate limited"  # 429 with `retry-after`
    TRUNCATED = "truncated"  # the first half of the reply, finish_reason "length"
    SLOW = "slow"  # streams for ever, a byte at a time, when streaming; else a byte of white space at a time
    OVERFLOW = "overflow"  # 400: the prompt does not fit the context window


def rules(pairs: Sequence[tuple[str, str | Sequence[str]]]) -> Script:
    """A script: the first pair whose pattern is found in the key answers. Without a key, the last message is searched.

    Of several replies, each conversation gets one after the other, and then the last again. The script has no state: a
    resumed run, or another process, gets the same replies.
    """

    def reply(key: str, messages: Sequence[Message]) -> str:
        for pattern, texts in pairs:
            if re.search(pattern, key or messages[-1].content):
                turn = sum(message.role == "assistant" for message in messages)
                return texts if isinstance(texts, str) else texts[min(turn, len(texts) - 1)]
        return "I have nothing to say to this."

    return reply


def estimate(text: str) -> int:
    """The scripted tokenizer: four characters a token, rounded up."""
    return -(-len(text) // 4)


def answer(script: Script, mode: Mode, key: str, messages: Sequence[Message]) -> Reply:
    """The reply of the script, changed according to the mode."""
    if mode is Mode.GARBAGE:
        text, finish = GARBAGE, FinishReason.STOP
    elif mode is Mode.EMPTY:
        text, finish = "", FinishReason.STOP
    else:
        said = script(key, messages)
        text, finish = (said.text, said.finish_reason) if isinstance(said, Reply) else (said, FinishReason.STOP)
    if mode is Mode.TRUNCATED:
        text, finish = text[: len(text) // 2], FinishReason.LENGTH
    prompt = sum(estimate(message.content) for message in messages)
    return Reply(
        text=text, finish_reason=finish, usage=Usage(calls=1, prompt_tokens=prompt, completion_tokens=estimate(text))
    )


class ScriptedModel:
    """A `bot.contracts.Model` in process. `calls` holds the calls so far."""

    def __init__(
        self,
        reply: Script,
        *,
        name: str = "scripted",
        context_window: int = 131_072,
        mode: Mode = Mode.NORMAL,
        on_cpu: bool = False,
    ) -> None:
        self._script = reply
        self._on_cpu = on_cpu
        self._name = name
        self._context_window = context_window
        self.mode = mode
        self.calls: list[ModelCall] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_window(self) -> int:
        return self._context_window

    @property
    def on_cpu(self) -> bool:
        return self._on_cpu

    async def reply(self, call: ModelCall) -> Reply:
        self.calls.append(call)
        await asyncio.sleep(0)  # other trajectories get their turn, as with a real model
        if self.mode is Mode.HANG or self.mode is Mode.SLOW:
            await asyncio.Event().wait()
        failures = (Mode.ERROR, Mode.RATE_LIMITED, Mode.DROP, Mode.MALFORMED, Mode.OVERFLOW, Mode.NULL)
        if self.mode in failures:
            end = FinishReason.OVERFLOW if self.mode is Mode.OVERFLOW else FinishReason.ERROR
            return Reply(text=f"the endpoint gave up: {self.mode}", finish_reason=end, usage=Usage(calls=1))
        return answer(self._script, self.mode, call.key, call.messages)

    async def count_tokens(self, text: str) -> int:
        return estimate(text)

    @property
    def keys(self) -> list[str]:
        return [call.key for call in self.calls]


def load(path: Path) -> Script:
    """The script in a file: Python with a function `reply`, or JSON rules."""
    if path.suffix == ".json":
        return rules([(pattern, replies) for pattern, replies in json.loads(path.read_text())])
    script: Script = runpy.run_path(str(path))["reply"]
    return script
