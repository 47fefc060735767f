"""One kind tried: loaded as the engine loads it, then its greedy text against `transformers`' in every way that the
engine computes.
"""

import random
import tempfile
from dataclasses import dataclass
from typing import Any

import torch

from engine.core import Core
from engine.errors import LoadError
from engine.model.features import check_config, check_kind, field
from engine.model.model import Model
from engine.model.text_half import decoder_class
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Sequence
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost
from tests.engine.kinds.tiny import config_of, make
from tests.engine.test_greedy import greedy, prompts

LENGTH = 12  # tokens of an answer


@dataclass(frozen=True)
class Outcome:
    """What became of a kind."""

    status: str  # served, refused, untried or failed
    words: str = ""  # what it uses, or why not


def attempt(kind: str, tokenizer: Tokenizer) -> Outcome:
    """Try a kind; never raises."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_kind(kind)
            config = config_of(kind)
            check_config(config)
            make(config).save_pretrained(folder)
            model = decoder_class(config).from_pretrained(folder, attn_implementation="eager").eval()
        except LoadError as error:
            return Outcome("refused", reason(error))
        except Exception as error:  # transformers' own code of any model
            return Outcome("untried", one_line(error))
        try:
            served = Model.load(folder, dtype="float32")
        except LoadError as error:
            return Outcome("refused", reason(error).replace(folder, "the folder"))
        except Exception as error:
            return Outcome("failed", one_line(error))
    try:
        compare(served, model, tokenizer)
    except Exception as error:
        return Outcome("failed", f"other text than transformers': {one_line(error)}")
    return Outcome("served", features(served, config))


def reason(error: LoadError) -> str:
    """The feature that is not implemented, or the whole message."""
    words = str(error).removeprefix("the model uses ").replace(", which this engine does not implement", "")
    return " ".join(words.split())[:160]


def compare(served: Model, model: Any, tokenizer: Tokenizer) -> None:
    """Greedy text over a tree of several levels, in chunks; then with drafts and a cache too small for all."""
    texts = prompts(5, 34, 16, seed=3)
    most = max((reach.most for reach in served.reaches), default=0)
    assert 2 * most < min(map(len, texts)), f"an index that chooses {most} tokens leaves out too few"
    wanted = answers(core_of(served, tokenizer, blocks=300), texts)
    for prompt, answer in zip(texts, wanted, strict=True):
        tokens = prompt + answer
        with torch.inference_mode():
            logits = model(torch.tensor([tokens[:-1]]), use_cache=False).logits[0]
        likeliest = logits.argmax(-1)[len(prompt) - 1 :].tolist()
        assert answer == likeliest, f"{answer} for {likeliest}"
    core = core_of(served, tokenizer, blocks=16, max_draft=8)
    core.scheduler._typical_output = 0.0  # admit as if answers were short, so that growth must preempt
    core.scheduler._drafts._drafter = Guesses(texts, wanted)
    again = answers(core, texts)
    assert again == wanted, f"with drafts and preemption {again} for {wanted}"
    assert core.scheduler.counters.accepted_tokens > 0
    assert core.scheduler.counters.preemptions > 0


class Guesses:
    """Drafts: some tokens that will be sampled, then some that will not."""

    def __init__(self, texts: list[list[int]], wanted: list[list[int]]) -> None:
        self._coming = {tuple(prompt): answer for prompt, answer in zip(texts, wanted, strict=True)}
        self._random = random.Random(0)

    def __call__(self, decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        found = {}
        for sequence in decoding:
            coming = self._coming[tuple(sequence.request.prompt)][sequence.generated :]
            right = self._random.randint(0, 4)
            found[sequence] = [*coming[:right], *((token + 1) % 384 for token in coming[right : right + 2])]
        return found


def core_of(model: Model, tokenizer: Tokenizer, blocks: int, **more: Any) -> Core:
    """A core with chunks of 19 tokens, and with windows that do not hold all that is cached."""
    windows = (12,) * len(model.windows)
    limits = Limits(block_size=8, prefill_chunk=19, windows=windows, **more)
    return Core(model, tokenizer, blocks, limits, RunOptions(CutCost(0)))


def answers(core: Core, texts: list[list[int]]) -> list[list[int]]:
    """Greedy answers to prompts that run together."""
    requests = [greedy(prompt, LENGTH) for prompt in texts]
    core.run(requests)
    core.scheduler.check_integrity()
    return [request.sequences[0].tokens[len(request.prompt) :] for request in requests]


def features(served: Model, config: Any) -> str:
    """What of a tiny model is not plain, in words."""
    found = []
    if any(reach.window for reach in served.reaches):
        found.append("sliding window")
    if any(reach.chunk for reach in served.reaches):
        found.append("chunks")
    if found and len(served.reaches) > 1:
        found[-1] += " in some layers"
    if any(reach.most for reach in served.reaches):
        found.append("tokens chosen by an index")
    if served.rates:
        found.append("entries that stand for several tokens behind it, some chosen by an index")
    if served.shape.state_bytes:
        found.append("layers with a recurrent state")
    text = config.get_text_config(decoder=True)
    if any(field(text, name) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        found.append("experts")
    if field(text, "kv_lora_rank"):
        found.append("latent attention" if served.shape.shared else "latent attention, keys and values cached in full")
    return ", ".join(found)


def one_line(error: Exception) -> str:
    """Kind and message, short."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
