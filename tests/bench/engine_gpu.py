"""The engine on a GPU: decoding rates over a shared prompt, with attention and without (the ceiling), random weights in
the shapes of Qwen2.5-Coder.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2Config, StoppingCriteria

from engine.core import Core
from engine.model.attention import NAME
from engine.model.backends import Backend, Score, StepItems, Work, use_tiles
from engine.model.model import Model
from engine.run import steady
from engine.run.runner import RunOptions
from engine.run.sampling import Draw, Draws, sample
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from kernels.tree_attention.cost import CutRule
from tests.bench import gpu_timing as timing
from tests.bench.attention_gpu import calibrated
from tests.bench.attention_trees import Shape
from tests.bench.bench_engine import generate, make_tokenizer
from tests.bench.llama_baseline import Branch

BLOCK = 16  # tokens
CHUNK = 4096  # prompt tokens of a step
WARM = 4  # decoding steps that do not count: the first records the graph


def weights(sizes: dict[str, Any], attention: str) -> Any:
    """A model of random weights, made where it runs."""
    torch.manual_seed(0)
    config = Qwen2Config(**sizes, max_position_embeddings=65_536, eos_token_id=None, bos_token_id=None)
    with timing.gpu.device:
        kind = timing.gpu.dtype
        return AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation=attention).eval()


class Ceiling:
    """A backend whose attention returns its input: what the rest of a step takes."""

    name = "nothing"

    def __init__(self, real: Backend) -> None:
        self._real = real
        self.heads, self.tiling, self.in_place = real.heads, real.tiling, real.in_place

    def prepare(self, step: StepItems, device: torch.device) -> Work:
        """Planned as ever, so that the host does the same."""
        return self._real.prepare(step, device)

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
        """Load, and calibrate, as the engine does at start."""
        model = Model(weights(sizes, NAME))
        model.use_attention("triton")
        found = calibrated(model.backend.heads)
        use_tiles(model.backend, found.queries)
        return cls(model, model.backend, found)

    def shared(self, batch: int, prefix: int, new: int, floor: Callable[[Shape], float]) -> dict[str, Any]:
        """`batch` samples of `new` tokens over one prompt of `prefix`, with attention and without (the ceiling).

        Args:
            batch: rows of a step, and samples.
            prefix: tokens.
            new: tokens of each sample.
            floor: seconds that no kernel can beat, of one layer's attention over a tree.

        Returns:
            Figures of `decode`; those without attention under `no_attention`, or why there are none; and the floor of
            all layers' attention in milliseconds.
        """
        found = self.decode(batch, prefix, new)
        heads = self.real.heads
        own = WARM + found["steps"] // 2 + 1  # tokens that each sample has of its own in the middle of what is timed
        tree = Shape("this one", ((1, prefix),), batch, own, heads)
        found["attention_floor_milliseconds"] = 1e3 * floor(tree) * self.model.shape.layers
        try:
            found["no_attention"] = self.decode(batch, prefix, new, ceiling=True)
        except Exception as error:  # what was measured counts
            found["no_attention"] = f"{type(error).__name__}: {error}"
        return found

    def decode(self, batch: int, prefix: int, new: int, ceiling: bool = False) -> dict[str, Any]:
        """Rates of `batch` samples of `new` tokens over one prompt of `prefix`.

        Returns:
            Tokens per second while all decode; milliseconds of a step, of the GPU's for the model and for sampling, and
            of the host's, waits taken off; and the share of these that the GPU's work hides.
        """
        core = self._core(batch, prefix // BLOCK + batch * (new // BLOCK + 2) + 2, ceiling)
        request = Request(_prompt(prefix, core.model.vocabulary), _hot(new), n=batch)
        core.check(request)
        core.submit(request)
        begin = timing.gpu.wait()
        while not all(sequence.generated for sequence in request.sequences):
            _step(core)
        prefill = timing.gpu.wait() - begin
        core.steady.settle()  # what sequences know
        steps = min(sequence.remaining for sequence in request.sequences) - WARM - 1  # the last takes the host longer
        for _ in range(WARM):
            _step(core)
        busy = _watch(core, batch)
        with _waiting() as waited:
            begin = timing.gpu.wait()
            for _ in range(steps):
                _step(core)
            seconds = timing.gpu.wait() - begin
        step = 1e3 * seconds / steps
        found: dict[str, Any] = {
            "tokens_per_second": batch * steps / seconds,
            "step_milliseconds": step,
            "prefill_seconds": prefill,
            "replays": core.graphs.replays,
            "overtaking": core.stats.overtaking,
            "steps": steps,
        }
        if busy:
            model = sum(milliseconds() for milliseconds in busy) / len(busy)
            draws = Draws.of([Draw(request.params, index, new) for index in range(batch)])
            sampling = 1e3 * timing.gpu.seconds(lambda: sample(_logits(core, batch), draws))
            host = max(step - 1e3 * sum(waited) / steps, 1e-6)
            hidden = 1 - min(1.0, max(0.0, step - model - sampling) / host)
            found |= {"model_milliseconds": model, "sampling_milliseconds": sampling}
            found |= {"host_milliseconds": host, "host_hidden": hidden}
        return found

    def apart(self, batch: int, prompt: int, new: int) -> float:
        """Seconds of a token of each of `batch` samples over prompts of their own, while all decode."""
        core = self._core(batch, batch * ((prompt + new) // BLOCK + 2) + 2)
        core.runner.warm_up()
        requests = [Request(_prompt(prompt, core.model.vocabulary, 1 + row), _hot(new)) for row in range(batch)]
        for request in requests:
            core.submit(request)
        sequences = [sequence for request in requests for sequence in request.sequences]
        while not all(sequence.generated for sequence in sequences):
            _step(core)
        core.steady.settle()
        steps = min(sequence.remaining for sequence in sequences) - WARM - 1
        for _ in range(WARM):
            _step(core)
        begin = timing.gpu.wait()
        for _ in range(steps):
            _step(core)
        return (timing.gpu.wait() - begin) / steps

    def whole(self, batch: int, prefix: int, new: int) -> float:
        """Seconds from a prompt to the last token of all samples. The graph was recorded before, as a server has."""
        core = self._core(batch, 2 * (prefix // BLOCK + batch * (new // BLOCK + 2)) + 2)
        seconds = 0.0
        for turn in range(2):
            begin = timing.gpu.wait()
            core.run([Request(_prompt(prefix, core.model.vocabulary, turn), _hot(new), n=batch)])
            seconds = timing.gpu.wait() - begin
        return seconds

    def _core(self, batch: int, blocks: int, ceiling: bool = False) -> Core:
        self.model.backend = Ceiling(self.real) if ceiling else self.real
        timing.gpu.free()
        limits = Limits(block_size=BLOCK, max_batch=batch, prefill_chunk=CHUNK)
        return Core(self.model, make_tokenizer(), blocks, limits, RunOptions(self.cost, timing.gpu.capture))


def _hot(new: int) -> SamplingParams:
    return SamplingParams(max_tokens=new, ignore_eos=True)


def _prompt(length: int, vocabulary: int, seed: int = 0) -> list[int]:
    found: list[int] = torch.randint(1, vocabulary, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


def _step(core: Core) -> None:
    for output in core.step():
        if output.error is not None:
            raise output.error


def _watch(core: Core, batch: int) -> list[Callable[[], float]]:
    """The GPU's milliseconds of every replay to come; stays empty where steps are no graphs."""
    found: list[Callable[[], float]] = []
    if core.runner.decode is not None:
        size = core.runner.decode._recorded(batch)
        assert size.replay is not None
        size.replay = timing.gpu.watched(size.replay, found)
    return found


def _logits(core: Core, batch: int) -> Tensor:
    """Of the last step."""
    assert core.runner.decode is not None
    return core.runner.decode._logits[:batch]


@contextmanager
def _waiting() -> Iterator[list[float]]:
    """Seconds of the host's waits for tokens, in steps that overtake."""
    found: list[float] = []
    read = steady._Flight.read

    def timed(flight: Any) -> Any:
        begin = time.perf_counter()
        result = read(flight)
        found.append(time.perf_counter() - begin)
        return result

    steady._Flight.read = timed  # type: ignore[method-assign]
    try:
        yield found
    finally:
        steady._Flight.read = read  # type: ignore[method-assign]


def generated(sizes: dict[str, Any], batch: int, prefix: int, new: int) -> float:
    """Seconds of `transformers.generate` for the same as `Subject.whole`."""
    model = weights(sizes, "sdpa")
    prompt = list(range(1, prefix + 1))
    generate(model, [Branch(prompt[:16], 2)], 2)
    begin = timing.gpu.wait()
    generate(model, [Branch(prompt, batch)], new)
    return timing.gpu.wait() - begin


class _Marks(StoppingCriteria):
    """When each token of `generate` was there; stops nothing."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self.seconds.append(timing.gpu.wait())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def compiled(sizes: dict[str, Any], batch: int, prompt: int, new: int) -> float:
    """Seconds of a token of each of `batch` samples by `transformers.generate` over a static cache, whose decoding it
    compiles on a GPU. A quarter of the tokens do not count.
    """
    model = weights(sizes, "sdpa")
    tokens = torch.tensor([_prompt(prompt, model.config.vocab_size, 1 + row) for row in range(batch)])
    tokens = tokens.to(timing.gpu.device)
    how: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "cache_implementation": "static"}
    how |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "eos_token_id": None, "pad_token_id": 0}
    marks = _Marks()
    for marks in (_Marks(), _Marks()):  # the first compiles
        given: dict[str, Any] = {
            "attention_mask": torch.ones_like(tokens),
            "generation_config": GenerationConfig(**how),
        }
        with torch.inference_mode():
            model.generate(tokens, stopping_criteria=[marks], **given)
    first = len(marks.seconds) // 4
    return (marks.seconds[-1] - marks.seconds[first]) / (len(marks.seconds) - 1 - first)
