"""The examination of a model: in which format it edits best, whether it corrects itself, how much it reads.

Some fifty short calls, sent together. What is found is kept by model and endpoint (`bot.llm.ability`) until the
questions change. The bundled model is not examined, nor are models with a recorded result.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bot.contracts import Model
from bot.errors import EndpointDown, EndpointError
from bot.llm.ability import FORMATS, Ability, AbilityCache, EditFormat, Share
from bot.llm.conversation import derived_seed, opening
from bot.llm.examination_tasks import EDITS, FILES, TESTS, EditTask, among_others, mistaken, problem_with
from bot.llm.prompts import render
from bot.llm.published_models import known_ability
from bot.patch.redefine import likely
from bot.records import Issue, Message, ModelCall, Reply, SourceFile

KEY = "examination"  # first part of the keys of calls
LEAST_BUDGET = 500_000  # tokens of a run's budget; a smaller one is kept for the issue
_REPLY = 1024  # tokens
_LEVELS = (4_000, 16_000)  # tokens of a file in which a line is to be changed
_CHARACTERS = 3.2  # of such a file, a token; a low estimate
_ASKED = 2  # questions of each level
_CORRECTIONS = 3
_UNANSWERED = 3  # an examination of which more than this part of the calls got no answer says nothing: one in three


Told = Callable[[int, int], None]  # how many calls have ended, and how many there may be


def untold(_done: int, _total: int) -> None:
    """A `Told` that nobody listens to."""


class Examiner:
    """Finds out what models are able to, once for each."""

    def __init__(self, folder: Path) -> None:
        self._cache = AbilityCache(folder)

    async def ability(self, model: Model, endpoint: str, *, again: bool = False, told: Told = untold) -> Ability | None:
        """What the model is able to: as it is known, else examined now; None where that can't be told.

        `again`: examine it even if it is known. Endpoints that fail are no errors here.
        """
        known = self._cache.load(model.name, endpoint, version()) or known_ability(model.name)
        if known is not None and not again:
            return known
        found = await examine(model, told)
        if found is not None:
            self._cache.store(model.name, endpoint, version(), found)
        return found


def version() -> str:
    """The version of the questions: other questions, other results."""
    asked = [message.content for form in FORMATS for task in EDITS for message in _edit_prompt(task, form)]
    asked += [message.content for number in range(len(TESTS)) for message in _test_prompt(number)]
    return hashlib.sha256("\0".join([*asked, str(_LEVELS)]).encode()).hexdigest()[:16]


async def examine(model: Model, told: Told = untold) -> Ability | None:
    """Examine the model now; None if the endpoint left too many calls without an answer."""
    sheet = _Sheet(model, told)
    try:
        edits, tests = await asyncio.gather(asyncio.gather(*(sheet.edits(form) for form in FORMATS)), sheet.tests())
        found = Ability(edits=dict(zip(FORMATS, edits, strict=True)), tests=tests)
        if found.formats:
            corrections, context = await asyncio.gather(
                sheet.corrections(found.formats[0]), sheet.context(found.formats[0])
            )
            found = found.model_copy(update={"corrections": corrections, "context_tokens": context})
    except (EndpointError, EndpointDown):
        return None
    if sheet.unanswered * _UNANSWERED > sheet.asked:
        return None
    return found.model_copy(update={"unanswered": sheet.unanswered})


class _Sheet:
    """Asks and counts."""

    def __init__(self, model: Model, told: Told) -> None:
        self._model = model
        self._told = told
        self._tasks = EDITS[:4] if model.on_cpu else EDITS
        self.asked = self.unanswered = 0
        told(0, self._most)

    async def edits(self, form: EditFormat) -> Share:
        """Edits in one format."""
        replies = await asyncio.gather(
            *(self._ask(f"edit/{form}/{i}", _edit_prompt(task, form)) for i, task in enumerate(self._tasks))
        )
        return await asyncio.to_thread(
            lambda: _share(task.judge(reply) for task, reply in zip(self._tasks, replies, strict=True))
        )

    async def tests(self) -> Share:
        """Tests that show a fault."""
        replies = await asyncio.gather(*(self._ask(f"test/{i}", _test_prompt(i)) for i in range(len(TESTS))))
        return _share(task.judge(reply) for task, reply in zip(TESTS, replies, strict=True))

    async def corrections(self, form: EditFormat) -> Share:
        """Replies that correct a mistake that was shown."""
        tasks = EDITS[:_CORRECTIONS]

        async def one(number: int, task: EditTask) -> bool:
            wrong = mistaken(task, form)
            told = render("full", "unparsed", problem=problem_with(task, wrong))
            turns = (Message(role="assistant", content=wrong), Message(role="user", content=told))
            return task.judge(await self._ask(f"correction/{number}", (*_edit_prompt(task, form), *turns)))

        return _share(await asyncio.gather(*(one(i, task) for i, task in enumerate(tasks))))

    async def context(self, form: EditFormat) -> int:
        """Tokens of a file in which the model still changes the right line; 0: as many as were tried."""
        if form == "file":  # it would have to write them all
            return 0
        passed = 0
        for level in self._levels:
            if not any(await asyncio.gather(*(self._in_long_file(level, i, form) for i in range(_ASKED)))):
                return passed or level // 2
            passed = level
        return 0

    @property
    def _levels(self) -> list[int]:
        most = self._model.context_window // 2
        return [level for level in _LEVELS if level <= most and not (self._model.on_cpu and level > _LEVELS[0])]

    @property
    def _most(self) -> int:
        """How many calls there may be."""
        return len(FORMATS) * len(self._tasks) + len(TESTS) + _CORRECTIONS + _ASKED * len(self._levels)

    async def _in_long_file(self, level: int, number: int, form: EditFormat) -> bool:
        task = EDITS[(0, 4)[number]]
        file = among_others(task, int(level * _CHARACTERS))
        reply = await self._ask(f"context/{level}/{number}", _edit_prompt(task, form, file))
        return await asyncio.to_thread(task.judge, reply, file)

    async def _ask(self, key: str, messages: Sequence[Message]) -> Reply:
        reply = await self._model.reply(
            ModelCall(
                key=f"{KEY}/{key}",
                messages=tuple(messages),
                max_tokens=min(_REPLY, max(64, self._model.context_window // 4)),
                temperature=0.0,
                seed=derived_seed(0, key),
                thinks=False,
            )
        )
        self.asked += 1
        self.unanswered += reply.failed
        self._told(self.asked, self._most)
        return reply


def _edit_prompt(task: EditTask, form: EditFormat, file: SourceFile | None = None) -> tuple[Message, ...]:
    files = FILES if file is None else (file,)
    return opening("full", "examine", files=files, instruction=task.instruction, edit_format=form)


def _test_prompt(number: int) -> tuple[Message, ...]:
    """As a trajectory asks for a test: with the import of what the issue most likely means."""
    title = TESTS[number].title
    example = likely(Issue(title=title, body=""), FILES[:1])
    return opening("full", "examine_test", title=title, file=FILES[0], example=example)


def _share(right: Iterable[bool]) -> Share:
    given = list(right)
    return Share(right=sum(given), of=len(given))
