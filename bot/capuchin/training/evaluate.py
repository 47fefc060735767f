"""Evaluation on held-out functions: do edits apply, find the line and fix it; are tests and decisions right."""

import ast
import contextlib
import dataclasses
import math
import random
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import openai

from bot.capuchin.exercises.scenes import Scene, Scenes
from bot.capuchin.exercises.tasks import review_test, revise_edit, write_edit, write_test
from bot.capuchin.exercises.turns import Turn, script
from bot.llm.bundled_engine import engine_process
from bot.llm.grammars import edit_grammar, test_grammar

TEMPERATURE = 0.6  # of the compact profile
# No text within goes past where the next element may begin, so that a search takes linear time on any reply.
_OLD = r"(?!=======\n|<edit )[^\n]*"
_NEW = r"(?!>>>>>>> REPLACE\n|<edit )[^\n]*"
EDIT = re.compile(
    rf'<edit path="([^"\n]*)">\n<<<<<<< SEARCH\n({_OLD}(?:\n{_OLD})*+)\n=======\n'
    rf"(?:({_NEW}(?:\n{_NEW})*+)\n)?+>>>>>>> REPLACE\n</edit>"
)
_LINE = r"(?!</test>|<test )[^\n]*"
TEST = re.compile(rf'<test path="test_issue\.py">\n({_LINE}(?:\n{_LINE})*+)\n</test>')


class Sampler:
    """Samples replies of a checkpoint from Troop's engine, as the solver does."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, seed: int) -> None:
        self._client = client
        self._model = model
        self._seed = seed

    async def sample(
        self, turns: Sequence[Turn], count: int, grammar: str | None = None, temperature: float = TEMPERATURE
    ) -> list[str]:
        """`count` replies to a conversation that ends with a user message, constrained by the grammar if given."""
        self._seed += count
        answer = await self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": turn.role, "content": turn.content} for turn in turns],  # type: ignore[misc]
            n=count,
            seed=self._seed,
            temperature=temperature,
            top_p=1.0,
            max_tokens=400,
            extra_body={"structured_outputs": {"grammar": grammar}} if grammar else None,
        )
        return [choice.message.content or "" for choice in answer.choices]


@contextlib.asynccontextmanager
async def sampler(folder: Path, seed: int = 0) -> AsyncIterator[Sampler]:
    """A sampler with an engine that serves the checkpoint until the context ends. Raises `EndpointError`."""
    with tempfile.TemporaryDirectory() as temporary:
        async with (
            engine_process(Path(temporary) / "engine.log", model=str(folder)) as url,
            openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client,
        ):
            yield Sampler(client, (await client.models.list()).data[0].id, seed)


@dataclasses.dataclass(frozen=True)
class Edited:
    """The result of one edit."""

    applies: bool = False
    same: bool = False  # it applies, but changes nothing
    line: bool = False  # it replaces the faulty line
    exact: bool = False  # the file equals the one without the bug


def judge_edit(scene: Scene, reply: str) -> Edited:
    """Apply the reply's edits to the scene's files as the solver does: SEARCH must match whole lines in one place."""
    found = EDIT.findall(reply)
    texts = {file.path: file.text for file in scene.files}
    hit = False
    for path, old, new in found:
        lines, search = texts.get(path, "").split("\n"), old.split("\n")
        starts = [i for i in range(len(lines)) if lines[i : i + len(search)] == search]
        if len(starts) != 1:
            return Edited()
        hit = hit or (scene.bug in search and scene.bug not in new.split("\n"))
        texts[path] = "\n".join([*lines[: starts[0]], *new.split("\n"), *lines[starts[0] + len(search) :]])
    changed = any(texts[file.path] != file.text for file in scene.files)
    fixed = _same(texts[scene.path], scene.text.replace(scene.planted, scene.original, 1))
    return Edited(bool(found) and changed, bool(found) and not changed, hit, fixed and changed)


def _same(one: str, other: str) -> bool:
    """Whether the texts, or their syntax trees, are equal."""
    if one == other:
        return True
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except (SyntaxError, ValueError):
        return False


def judge_test(scene: Scene, reply: str) -> bool:
    """Whether the reply is a test with the syntax tree of the reference."""
    found = TEST.search(reply)
    return found is not None and _same(found[1], script(scene))


def at_least_one(right: int, count: int, k: int) -> float:
    """Unbiased estimate of pass@k (arXiv 2107.03374, section 2.1)."""
    return 1.0 - math.comb(count - right, k) / math.comb(count, k) if k <= count else math.nan


def _mean(values: Sequence[float]) -> float:
    return round(100 * sum(values) / max(1, len(values)), 1)


async def evaluate(folder: Path, scenes: Scenes, seed: int, count: int = 40, samples: int = 64) -> dict[str, object]:
    """Percentages over `count` scenes of held-out functions.

    For each, samples `samples` edits and a quarter as many tests, with and without the solver's grammars, and 4
    decisions.
    """
    began = time.monotonic()
    rng = random.Random(f"evaluation {seed}")
    edits: dict[str, list[list[Edited]]] = {"free": [], "held": []}
    tests: dict[str, list[list[bool]]] = {"free": [], "held": []}
    decisions: dict[str, list[float]] = {"approve": [], "revise test": [], "done": [], "revise edit": []}
    async with sampler(folder, seed) as model:
        while len(edits["free"]) < count:
            scene = scenes.draw(rng)
            dialogues = [make(scene, rng) for make in (write_edit, write_test, review_test, revise_edit)]
            if any(turns is None for turns in dialogues) or sum(len(file.text) for file in scene.files) > 4000:
                continue
            edit, test, bad_test, bad_edit = (turns or [] for turns in dialogues)
            texts = {file.path: file.text for file in scene.files}
            held = {
                "edit": edit_grammar(scene.issue, scene.files, texts.get),
                "test": test_grammar(scene.issue, scene.files),
            }
            for way, grammars in (("free", {"edit": None, "test": None}), ("held", held)):
                replies = await model.sample(edit[:1], samples, grammars["edit"])
                edits[way].append([judge_edit(scene, reply) for reply in replies])
                replies = await model.sample(test[:1], max(1, samples // 4), grammars["test"])
                tests[way].append([judge_test(scene, reply) for reply in replies])
            if len(test) > 3:
                decisions["approve"] += [reply == "<approve/>" for reply in await model.sample(test[:3], 4)]
            decisions["revise test"] += [judge_test(scene, reply) for reply in await model.sample(bad_test[:3], 4)]
            if len(edit) > 3:
                decisions["done"] += [reply == "<done/>" for reply in await model.sample(edit[:3], 4)]
            before = bad_edit[1].content
            replies = await model.sample(bad_edit[:3], 4)
            decisions["revise edit"] += [reply != before and judge_edit(scene, reply).applies for reply in replies]
            print(f"scene {len(edits['free'])} of {count}", end="\r", flush=True)
    return {
        "scenes": count,
        "samples": samples,
        "seed": seed,
        "sampling": f"temperature {TEMPERATURE}",
        **{way: _figures(edits[way], tests[way]) for way in edits},
        **{f"decision right: {name} %": _mean(values) for name, values in decisions.items()},
        "seconds": round(time.monotonic() - began),
    }


def _figures(edits: Sequence[Sequence[Edited]], tests: Sequence[Sequence[bool]]) -> dict[str, float]:
    flat = [one for row in edits for one in row]
    samples = len(edits[0])
    rights = [sum(one.exact for one in row) for row in edits]
    return {
        "edit applies %": _mean([one.applies for one in flat]),
        "edit changes nothing %": _mean([one.same for one in flat]),
        "line found %": _mean([one.line for one in flat]),
        **{
            f"fixed at {k} %": _mean([at_least_one(n, samples, k) for n in rights])
            for k in (1, 4, 16, 64)
            if k <= samples
        },
        "test right %": _mean([one for row in tests for one in row]),
        "any test right %": _mean([any(row) for row in tests]),
    }
