"""The host's part of a step, timed: a core whose model computes nothing, in this process.

    python -m tests.bench.host_steps --rows 1024 [--prompt 2048] [--steps 40]

Everything but the model's forward pass runs as on a GPU with CUDA graphs: scheduling, batches, plans of attention (for
7B's heads and a GPU of 132 multiprocessors), sampling over a small vocabulary, outputs. `tests.bench.bench_host` runs
it on this tree and on an older one, so it uses nothing that either lacks.
"""

import argparse
import gc
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch

from engine import loop
from engine.core import Core
from engine.run import graphs
from engine.run.graphs import call_again
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.text.output import ByteDecoder
from kernels.tree_attention import buffers
from kernels.tree_attention.cut import CutCost
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import Tiling
from kernels.tree_attention.reach import FULL

VOCABULARY = 64
BLOCK = 16  # tokens
PROGRAMS = 264  # two on each of 132 multiprocessors
WARM = 4  # steps that do not count
CHUNK = 4096  # prompt tokens of a step


class NoModel:
    """A model's surroundings: the same logits for every row."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.vocabulary = VOCABULARY
        self.context_length = 32_768
        self.end_tokens: frozenset[int] = frozenset()
        self.reaches = (FULL,)
        self.rates = ()
        self.windows: tuple[Any, ...] = ()
        self.layer_reaches = [0]
        heads = Heads(28, 4, 128, 2)
        self.backend = SimpleNamespace(
            name="triton", heads=heads, tiling=Tiling.of(heads), in_place=False,
            use_zones=lambda *_: None, prepare=lambda *_, **__: None,
        )  # fmt: skip
        self.shape = SimpleNamespace(token_bytes=1, state_bytes=0, places=lambda *_: ())
        self.cache = torch.empty(0)
        self.states = SimpleNamespace(slots=0, clear=lambda slot: None)
        generator = torch.Generator().manual_seed(0)
        self._logits = torch.randn(8192, VOCABULARY, generator=generator)

    def allocate(self, slots: int, states: int = 0, windows: Any = (), block_size: int = 1) -> None:
        """There is no cache."""

    def copy(self, source: Any, target: Any) -> None:
        """There is no cache."""

    def forward(self, step: Any, out: Any = None) -> torch.Tensor:
        """`[sampled, vocabulary]`."""
        return self._logits[: len(step.sampled)]


def make_core(rows: int, prompt: int, output: int) -> Core:
    """With room for `rows` sequences over one prompt."""
    blocks = prompt // BLOCK + rows * (-(-output // BLOCK) + 2) + 64
    tokenizer: Any = SimpleNamespace(decoder=lambda *_: ByteDecoder([b"x"] * VOCABULARY))
    model: Any = NoModel()
    limits = Limits(BLOCK, rows, CHUNK)
    return Core(model, tokenizer, blocks, limits, RunOptions(CutCost(500), call_again))


def measure(rows: int, prompt: int, steps: int) -> dict[str, float]:
    """Milliseconds a step, and seconds to admit and to finish all sequences."""
    programs = lambda *_: PROGRAMS  # noqa: E731
    buffers.resident_programs = programs
    graphs.resident_programs = programs
    core = make_core(rows, prompt, steps + WARM + 2)
    params = SamplingParams(temperature=0.8, max_tokens=steps + WARM + 1, seed=1)
    request = Request([(7 * at) % VOCABULARY for at in range(prompt)], params, rows, client="one")
    core.runner.warm_up()
    core.submit(request)
    admitting = 0.0
    while not all(sequence.generated for sequence in request.sequences):
        begin = time.thread_time()
        core.step()
        admitting += time.thread_time() - begin
    for _ in range(WARM):
        core.step()
    times = []
    for _ in range(steps - 2):
        begin = time.thread_time()
        core.step()
        times.append(time.thread_time() - begin)
    begin = time.thread_time()
    while core.busy:
        core.step()
    finishing = time.thread_time() - begin
    graphs_used = core.runner.decode
    assert graphs_used is not None
    times.sort()
    return {
        "step_ms": 1e3 * times[len(times) // 2],
        "mean_ms": 1e3 * sum(times) / len(times),
        "admit_s": admitting,
        "finish_s": finishing,
        "misses": core.graphs.misses if hasattr(core, "graphs") else graphs_used.overflows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.host_steps")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    getattr(loop, "calm_collector", gc.freeze)()  # as the engine's thread does
    print(json.dumps(measure(arguments.rows, arguments.prompt, arguments.steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
