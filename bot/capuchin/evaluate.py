"""Evaluation on kept-back functions: do edits apply, find the line, fix it; are tests and decisions right."""

import ast
import dataclasses
import inspect
import math
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from bot.capuchin.scenes import Scene, Scenes
from bot.capuchin.tasks import review_test, revise_edit, write_edit, write_test
from bot.capuchin.turns import Turn, script

# What transformers calls the keys and values: `past_key_values` until 5.2x.
_CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"
EDIT = re.compile(r'<edit path="(.*?)">\n<<<<<<< SEARCH\n(.*?)\n=======\n(.*?)\n?>>>>>>> REPLACE\n</edit>', re.DOTALL)
TEST = re.compile(r'<test path="test_issue\.py">\n(.*?)\n</test>', re.DOTALL)


class Sampler:
    """Samples replies of a checkpoint; the prompt is computed once for all samples."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self.model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16).eval()
        self.generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def sample(
        self, turns: Sequence[Turn], count: int, temperature: float = 0.8, top_p: float = 0.95, longest: int = 160
    ) -> list[str]:
        """`count` replies to a conversation that ends with the user."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        out = self.model(ids, use_cache=True, logits_to_keep=1)
        cache = out[_CACHE]
        cache.batch_repeat_interleave(count)
        logits = out.logits[:, -1].repeat(count, 1)
        going = torch.arange(count)  # the samples that are still computed
        ended = torch.zeros(count, dtype=torch.bool)
        rows: list[torch.Tensor] = []
        for _ in range(longest):
            chosen = self._draw(logits.float(), temperature, top_p)
            chosen[ended[going]] = 0
            ended[going] |= chosen == 3
            rows.append(torch.zeros(count, dtype=torch.long).index_copy(0, going, chosen))
            if bool(ended.all()):
                break
            left = ~ended[going]
            if int(left.sum()) * 4 < 3 * len(going):
                cache.batch_select_indices(left.nonzero()[:, 0])
                going, chosen = going[left], chosen[left]
            logits = self.model(chosen[:, None], **{_CACHE: cache}, use_cache=True).logits[:, -1]
        texts: list[str] = self.tokenizer.batch_decode(torch.stack(rows, 1).tolist(), skip_special_tokens=True)
        return texts

    def _draw(self, logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
        if temperature == 0:
            return logits.argmax(-1)
        order, where = (logits / temperature).softmax(-1).sort(descending=True)
        order[order.cumsum(-1) - order > top_p] = 0
        return where.gather(1, torch.multinomial(order, 1, generator=self.generator))[:, 0]


@dataclasses.dataclass(frozen=True)
class Edited:
    """What one edit reply came to."""

    applies: bool = False
    same: bool = False  # it applies, but changes nothing
    line: bool = False  # the faulty line is among those replaced by others
    exact: bool = False  # the file is as it was before the bug was planted


def judge_edit(scene: Scene, reply: str) -> Edited:
    """Apply the reply's edits to the scene's files as the solver does: whole lines, one place only."""
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
    """Equal text, or equal meaning by the syntax tree where both parse."""
    if one == other:
        return True
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except (SyntaxError, ValueError):
        return False


def judge_test(scene: Scene, reply: str) -> bool:
    """Whether the reply is a test that equals the reference in meaning."""
    found = TEST.search(reply)
    return found is not None and _same(found[1], script(scene))


def at_least_one(right: int, count: int, k: int) -> float:
    """Unbiased chance that one of k samples is right (arXiv 2107.03374, section 2.1)."""
    return 1.0 - math.comb(count - right, k) / math.comb(count, k) if k <= count else math.nan


def _mean(values: Sequence[float]) -> float:
    return round(100 * sum(values) / max(1, len(values)), 1)


def evaluate(folder: Path, scenes: Scenes, seed: int, count: int = 40, samples: int = 64) -> dict[str, object]:
    """Percentages over `count` scenes of kept-back functions: `samples` edits each, 8 tests each, 4 decisions each."""
    began = time.monotonic()
    sampler, rng = Sampler(folder, seed), random.Random(f"evaluation {seed}")
    edits: list[list[Edited]] = []
    tests: list[float] = []
    decisions: dict[str, list[float]] = {"approve": [], "revise test": [], "done": [], "revise edit": []}
    while len(edits) < count:
        scene = scenes.draw(rng)
        dialogues = [make(scene, rng) for make in (write_edit, write_test, review_test, revise_edit)]
        if any(turns is None for turns in dialogues) or sum(len(file.text) for file in scene.files) > 4000:
            continue
        edit, test, bad_test, bad_edit = (turns or [] for turns in dialogues)
        edits.append([judge_edit(scene, reply) for reply in sampler.sample(edit[:1], samples)])
        tests += [judge_test(scene, reply) for reply in sampler.sample(test[:1], 8)]
        if len(test) > 3:
            decisions["approve"] += [reply == "<approve/>" for reply in sampler.sample(test[:3], 4)]
        decisions["revise test"] += [judge_test(scene, reply) for reply in sampler.sample(bad_test[:3], 4)]
        if len(edit) > 3:
            decisions["done"] += [reply == "<done/>" for reply in sampler.sample(edit[:3], 4)]
        before = bad_edit[1].content
        replies = sampler.sample(bad_edit[:3], 4)
        decisions["revise edit"] += [reply != before and judge_edit(scene, reply).applies for reply in replies]
        print(f"scene {len(edits)} of {count}", end="\r", flush=True)
    flat = [one for row in edits for one in row]
    rights = [sum(one.exact for one in row) for row in edits]
    return {
        "scenes": count,
        "samples": samples,
        "seed": seed,
        "sampling": "temperature 0.8, top-p 0.95",
        "edit applies %": _mean([one.applies for one in flat]),
        "edit changes nothing %": _mean([one.same for one in flat]),
        "line found %": _mean([one.line for one in flat]),
        **{
            f"fixed at {k} %": _mean([at_least_one(n, samples, k) for n in rights])
            for k in (1, 4, 16, 64)
            if k <= samples
        },
        "test right %": _mean(tests),
        **{f"decision right: {name} %": _mean(values) for name, values in decisions.items()},
        "seconds": round(time.monotonic() - began),
    }
