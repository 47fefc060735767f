"""Replies of a model to functions of HumanEval, each judged and kept on disk: nothing is drawn twice."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from bot.contracts import Sandbox
from bot.evaluation import functions
from bot.evaluation.tasks import FunctionTask
from bot.llm.conversation import derived_seed
from tests.bench import visible_examples
from tests.bench.visible_examples import Example, Outcome

Messages = tuple[tuple[str, str], ...]  # role and content of each
STOP = "\n```\n"  # behind the code nothing is read
_WORD = 4  # tokens of a reply that is a word


@dataclass(frozen=True)
class Attempt:
    """One reply, and what its code came to."""

    text: str
    tokens: int  # generated
    computed: int  # of the prompt, those that the cache did not have
    outcomes: tuple[Outcome, ...]  # of the visible examples
    solves: bool  # the hidden check

    @property
    def passes(self) -> bool:
        """Whether it passes all visible examples: nobody corrects it then."""
        return all(outcome.passes for outcome in self.outcomes)

    @property
    def score(self) -> float:
        """The share of visible examples that it passes."""
        return sum(outcome.passes for outcome in self.outcomes) / len(self.outcomes)


@dataclass(frozen=True)
class Visible:
    """A task, and the examples of its docstring."""

    task: FunctionTask
    examples: tuple[Example, ...]


class Record:
    """A file of JSON lines, only ever appended to; the last line may be cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # of a process that was killed
            self._kept[row["key"]] = row

    def get(self, key: str) -> dict[str, Any] | None:
        return self._kept.get(key)

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        whole = {"key": key, **row}
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write(("\n" if cut else "") + json.dumps(whole) + "\n")
        self._kept[key] = whole


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn."""

    temperature: float
    max_tokens: int
    seed: int


class Sampler:
    """Draws from one model; equal calls are answered from the record. Raises what the openai client raises."""

    def __init__(
        self, name: str, record: Record, sampling: Sampling, drawn: tuple[AsyncOpenAI, Sandbox] | None = None
    ) -> None:
        """`drawn`: who answers what is not recorded, and where it is judged; `Missing` is raised without them."""
        self._name = name
        self._drawn = drawn
        self._under_way: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._record = record
        self._sampling = sampling

    async def sample(self, visible: Visible, prefix: Messages, number: int) -> Attempt:
        """The reply of that number to the messages, judged: the same whoever asks, so that chance is shared."""
        row = await self._row(visible, prefix, number, self._sampling.max_tokens)
        outcomes = tuple(Outcome(**one) for one in row["outcomes"])
        return Attempt(row["text"], row["tokens"], row["computed"], outcomes, row["solves"])

    async def word(self, visible: Visible, prefix: Messages) -> Attempt:
        """A reply of a few tokens, which is no code."""
        row = await self._row(visible, prefix, 0, _WORD)
        return Attempt(row["text"], row["tokens"], row["computed"], (), False)

    async def _row(self, visible: Visible, prefix: Messages, number: int, most: int) -> dict[str, Any]:
        told = json.dumps([prefix, most, self._sampling.temperature, self._sampling.seed])
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        key = f"{self._name}/{visible.task.id}/{digest}/{number}"
        if row := self._record.get(key):
            return row
        if self._drawn is None:
            raise Missing(key)
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(self._draw(self._drawn, visible, prefix, most, key))
        return await self._under_way[key]

    async def _draw(
        self, drawn: tuple[AsyncOpenAI, Sandbox], visible: Visible, prefix: Messages, most: int, key: str
    ) -> dict[str, Any]:
        client, sandbox = drawn
        answer = await client.chat.completions.create(
            model=self._name,
            messages=[{"role": role, "content": content} for role, content in prefix],  # type: ignore[misc]
            temperature=self._sampling.temperature,
            top_p=0.95,
            max_tokens=most,
            stop=STOP,
            seed=derived_seed(self._sampling.seed, key),
        )
        usage, text = answer.usage, answer.choices[0].message.content or ""
        assert usage is not None
        cached = (usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0
        row = {"text": text, "tokens": usage.completion_tokens, "computed": usage.prompt_tokens - cached}
        row |= await _judged(sandbox, visible, text) if most > _WORD else {}
        self._record.add(key, row)
        return row


async def _judged(sandbox: Sandbox, visible: Visible, text: str) -> dict[str, Any]:
    code = functions.code_of(text)
    ran = await sandbox.run(visible_examples.job(visible.task, code, visible.examples))
    outcomes = visible_examples.outcomes(ran, visible.examples)
    solves = functions.solves(await sandbox.run(functions.job(visible.task, code)))
    return {"outcomes": [asdict(outcome) for outcome in outcomes], "solves": solves}


class Missing(Exception):
    """The record does not hold a call."""


def first(visible: Visible, hint: str = "") -> Messages:
    """What opens a conversation: the question, then what is known of failures."""
    asked = functions.question(visible.task) + "Reply with the function alone, without its docstring or examples.\n"
    return (("user", asked + hint),)


def corrected(prefix: Messages, visible: Visible, attempt: Attempt) -> Messages:
    """The conversation, gone on with: the reply, and what its examples came to."""
    failing = visible_examples.told(visible.examples, attempt.outcomes)
    asked = f"These examples of the description fail:\n{failing}\nReply with the corrected function alone.\n"
    code = f"```python\n{functions.code_of(attempt.text).strip()}\n```"
    return (*prefix, ("assistant", code), ("user", asked))


def warned(visible: Visible, failed: Sequence[Attempt], attempts: int) -> Messages:
    """The question of a later wave: what failed in the earlier ones, distilled."""
    told = visible_examples.distilled(visible.examples, [attempt.outcomes for attempt in failed], attempts)
    hint = f"\n{attempts} earlier attempts were made. These failed the description's examples:\n{told}\n"
    return first(visible, hint + "Write a function that avoids these mistakes.\n")
