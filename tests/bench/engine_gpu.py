"""The engine on a GPU: decoding rates over a shared prompt, with attention and without (the ceiling), random weights in
the shapes of Qwen2.5-Coder.
"""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen2Config

from engine.core import Core
from engine.model.attention import NAME
from engine.model.backends import Backend, Score, Work, calibrate, use_tiles
from engine.model.model import Model
from engine.run.graphs import Capture, record
from engine.run.runner import RunOptions
from engine.schedule.scheduler import Limits
from engine.schedule.sequence import Request, SamplingParams
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost
from kernels.tree_attention.items import Item
from kernels.tree_attention.reach import Floors
from tests.bench.bench_engine import generate, make_tokenizer
from tests.bench.llama_baseline import Branch

QWEN: dict[str, dict[str, Any]] = {
    "1.5B": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
BLOCK = 16  # tokens
CHUNK = 4096  # prompt tokens of a step
WARM = 4  # decoding steps that do not count: the first records the graph


def place() -> torch.device:
    """Where to run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def weights(sizes: dict[str, Any], attention: str) -> Any:
    """A model of random weights, made where it runs; bfloat16 on a GPU."""
    torch.manual_seed(0)
    config = Qwen2Config(**sizes, max_position_embeddings=65_536, eos_token_id=None, bos_token_id=None)
    kind = torch.bfloat16 if place().type == "cuda" else torch.float32
    with place():
        return AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation=attention).eval()


class Ceiling:
    """A backend whose attention returns its input: what the rest of a step takes."""

    name = "nothing"

    def __init__(self, real: Backend) -> None:
        self._real = real
        self.heads, self.tiling, self.in_place = real.heads, real.tiling, real.in_place

    def prepare(
        self, items: Sequence[Item], rows: int, block_size: int, device: torch.device, floors: Floors | None = None
    ) -> Work:
        """Planned as ever, so that the host does the same."""
        return self._real.prepare(items, rows, block_size, device, floors)

    def use_zones(self, zone: int, cache_blocks: int) -> None:
        """As the real one."""
        self._real.use_zones(zone, cache_blocks)

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score) -> Tensor:
        """Nothing."""
        return query.contiguous()


@dataclass
class Subject:
    """One model, and how its attention is cut on this device."""

    model: Model
    real: Backend
    cost: CutRule

    @classmethod
    def of(cls, sizes: dict[str, Any]) -> "Subject":
        """Load, and calibrate where there is a GPU."""
        model = Model(weights(sizes, NAME))
        cost: CutRule = CutCost()
        if model.device.type == "cuda":
            found = calibrate(model.backend, model.dtype, model.device, BLOCK)
            use_tiles(model.backend, found.queries)
            cost = found
        return cls(model, model.backend, cost)

    def decode(self, batch: int, prefix: int, new: int, ceiling: bool = False) -> dict[str, Any]:
        """Rates of `batch` samples of `new` tokens over one prompt of `prefix`.

        Returns:
            Tokens per second while all decode; milliseconds of a step, and of these the GPU's for the model.
        """
        model = self.model
        model.backend = Ceiling(self.real) if ceiling else self.real
        blocks = prefix // BLOCK + batch * (new // BLOCK + 2) + 2
        free()
        core = Core(model, make_tokenizer(), blocks, _limits(batch), RunOptions(self.cost, _capture(model)))
        generator = torch.Generator().manual_seed(prefix)
        prompt = torch.randint(1, model.vocabulary, (prefix,), generator=generator).tolist()
        request = Request(prompt, SamplingParams(max_tokens=new, ignore_eos=True), n=batch)
        core.check(request)
        core.submit(request)
        _wait()
        begin = time.perf_counter()
        while not all(sequence.generated for sequence in request.sequences):
            _step(core)
        _wait()
        prefill = time.perf_counter() - begin
        for _ in range(WARM):
            _step(core)
        busy = _watch(core, batch)
        _wait()
        begin, steps = time.perf_counter(), 0
        while request.sequences[0].remaining > 1:  # the last ends all, which takes the host longer
            _step(core)
            steps += 1
        _wait()
        seconds = time.perf_counter() - begin
        found: dict[str, Any] = {
            "tokens_per_second": round(batch * steps / seconds, 1),
            "step_milliseconds": round(seconds / steps * 1e3, 3),
            "prefill_seconds": round(prefill, 3),
            "replays": core.graphs.replays,
            "steps": steps,
        }
        if busy:
            found["model_milliseconds"] = round(sum(a.elapsed_time(b) for a, b in busy) / len(busy), 3)
        model.backend = self.real
        return found


def _step(core: Core) -> None:
    for output in core.step():
        if output.error is not None:
            raise output.error


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _watch(core: Core, batch: int) -> list[tuple[Any, Any]]:
    """Events before and behind every replay to come; empty where steps are no graphs."""
    found: list[tuple[Any, Any]] = []
    if core.runner.decode is None:
        return found
    size = core.runner.decode._recorded(batch)
    replay = size.replay
    assert replay is not None

    def watched() -> Tensor:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        logits = replay()
        end.record()
        found.append((begin, end))
        return logits

    size.replay = watched
    return found


def whole(subject: Subject, batch: int, prefix: int, new: int) -> float:
    """Seconds of the engine from a prompt to the last token of all samples. It has recorded its graph before, as a
    server has.
    """
    model = subject.model
    blocks = prefix // BLOCK * 2 + batch * (new // BLOCK + 2) * 2 + 2
    free()
    core = Core(model, make_tokenizer(), blocks, _limits(batch), RunOptions(subject.cost, _capture(model)))
    generator = torch.Generator().manual_seed(prefix)
    prompts = torch.randint(1, model.vocabulary, (2, prefix), generator=generator).tolist()
    for prompt in prompts:
        _wait()
        begin = time.perf_counter()
        core.run([Request(prompt, SamplingParams(max_tokens=new, ignore_eos=True), n=batch)])
        _wait()
        seconds = time.perf_counter() - begin
    return seconds


def _limits(batch: int) -> Limits:
    return Limits(block_size=BLOCK, max_batch=batch, prefill_chunk=CHUNK)


def _capture(model: Model) -> Capture | None:
    return record if model.device.type == "cuda" else None


def free() -> None:
    """What former cores held, graphs among it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def generated(sizes: dict[str, Any], batch: int, prefix: int, new: int) -> float:
    """Seconds of `transformers.generate` for the same."""
    plain = weights(sizes, "sdpa")
    prompt = list(range(1, prefix + 1))
    generate(plain, [Branch(prompt[:16], 2)], 2)
    _wait()
    begin = time.perf_counter()
    generate(plain, [Branch(prompt, batch)], new)
    _wait()
    return time.perf_counter() - begin
