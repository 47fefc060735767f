"""Lack of memory shows at start, with a message that names the setting."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import warmup
from engine.cli import main
from engine.core import Core
from engine.errors import LoadError
from engine.model import memory
from engine.model.cache_shape import CacheShape, CacheSize
from engine.model.memory import Watch, available, size
from engine.model.model import Model, StepInput
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.server.process import _smaller, build_core
from engine.settings import Settings
from engine.warmup import DeviceMemory, first_cache, largest_step, size_that_fits, warm_up
from kernels.tree_attention.cut import CutCost
from kernels.tree_attention.reach import FULL, Reach
from tests.engine.conftest import copy_into_engine
from tests.engine.test_greedy import check, prompts
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def failing_above(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception | None = None) -> list[int]:
    """Models that raise if a step has more than `rows` rows, and the sizes of all steps."""
    real = Model.forward
    seen: list[int] = []

    def forward(model: Model, step: StepInput, out: Any = None) -> Any:
        seen.append(step.tokens.shape[0])
        if step.tokens.shape[0] > rows:
            raise error or torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        return real(model, step, out)

    monkeypatch.setattr(Model, "forward", forward)
    return seen


@pytest.mark.parametrize("blocks", [3, 20, 100, 700])
def test_the_largest_step_runs_and_leaves_nothing_behind(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch, weights: Any, blocks: int
):
    core = make_core(blocks=blocks, max_batch=24, prefill_chunk=64)
    seen = failing_above(monkeypatch, 10**9)
    assert warm_up(core) >= 0
    expected = 23 + 64 if blocks > 24 else None
    assert expected is None or seen == [expected]
    assert core.scheduler.allocator.free == blocks
    core.scheduler.check_integrity()
    if blocks >= 100:
        check(core, weights, prompts(7, 30, 20, seed=1), 8)


def test_too_many_sequences(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    core = make_core(max_batch=24, prefill_chunk=32)
    failing_above(monkeypatch, 10)
    with pytest.raises(LoadError, match=r"a step of 24 sequences .*20\.00 GiB.*lower --max-batch \(6 works\)"):
        warm_up(core)


def test_too_long_a_chunk(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    core = make_core(max_batch=8, prefill_chunk=64)
    failing_above(monkeypatch, 40)
    with pytest.raises(LoadError, match=r"64 prompt tokens beside 7 sequences .*lower --prefill-chunk \(32 works\)"):
        warm_up(core)


def test_nothing_works(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    failing_above(monkeypatch, 0, RuntimeError("no kernel image is available"))
    with pytest.raises(LoadError, match="no kernel image is available: not even the smallest can"):
        warm_up(make_core(max_batch=4))


def test_the_command_ends_with_the_reason(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    failing_above(monkeypatch, 30)
    command = ["--model", str(model_folder), "--port", "0", "--cache-tokens", "1000", "--threads", "1"]
    assert main([*command, "--max-batch", "40", "--prefill-chunk", "16"]) == 1
    assert "lower --max-batch (20 works)" in capsys.readouterr().err


def test_a_cache_larger_than_memory(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warmup, "available", lambda device: 1 << 20)
    with pytest.raises(LoadError, match=r"1\.0 MiB of memory that is free: lower --cache-memory"):
        build_core(Settings(model=str(model_folder), cache_tokens=100_000, max_batch=4))


def test_a_cache_that_leaves_no_room_for_the_step(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    core = make_core()
    cache = core.model.cache.nbytes
    monkeypatch.setattr(warmup, "available", lambda device: cache + (1 << 20))
    monkeypatch.setattr(Watch, "peak", lambda watch: 2 << 20)
    with pytest.raises(LoadError, match=r"the largest step's 2\.0 MiB need more than"):
        warm_up(core)


def test_the_cache_of_a_gpu_is_what_model_and_step_leave(make_core: Callable[..., Core]):
    core = make_core()
    block = core.model.shape.token_bytes * 8
    total, model, cache, peak = 1 << 30, 300 << 20, 50 << 20, 100 << 20
    found = size_that_fits(core, DeviceMemory(total - model - cache, total, cache, peak), 0.9, 10**6)
    assert found == CacheSize(((total * 9 // 10) - model - peak) // block)
    with pytest.raises(LoadError, match="raise --gpu-memory-share"):
        size_that_fits(core, DeviceMemory(total - model, total, 0, peak), 0.3, 10**6)


def qwen3_coder_30b(vocabulary: int = 151_936, context: int = 262_144) -> Any:
    """Its sizes, in bfloat16."""
    config = SimpleNamespace(hidden_size=2048, intermediate_size=6144)
    shape = CacheShape(48, 4, 128, 2, 32)
    return SimpleNamespace(
        config=config,
        shape=shape,
        vocabulary=vocabulary,
        context_length=context,
        dtype=torch.bfloat16,
        reaches=(FULL,),
        rates=(),
    )


@pytest.mark.parametrize(("max_batch", "chunk"), [(256, 512), (1024, 4096)])
def test_the_first_cache_fits_into_what_the_weights_leave(max_batch: int, chunk: int):
    """57 GiB of weights on 80 GB: a cache for two texts of the model's length would take another 48."""
    model, limits = qwen3_coder_30b(), Limits(16, max_batch, chunk)
    free = int(79.2 * 2**30) - (57 << 30)
    tokens = first_cache(model, limits, free)
    taken = tokens * model.shape.token_bytes + largest_step(model, limits)
    assert free // 3 < taken < free
    assert tokens > max_batch * 16 + chunk
    assert first_cache(model, limits, 1 << 40) == 2 * model.context_length + max_batch * 16
    with pytest.raises(LoadError, match=r"3\.0 GiB of GPU memory that the model leaves.*lower --max-batch or --pref"):
        first_cache(model, Limits(16, 1024, 4096), 3 << 30)


def test_tiles_of_scores_are_counted_where_tokens_are_chosen():
    model, limits = qwen3_coder_30b(), Limits(16, 64, 512)
    plain = largest_step(model, limits)
    model.reaches = (FULL, Reach(most=2048))
    assert largest_step(model, limits) - plain > 160 << 20, "what `choose` was seen to take"


def test_a_gpus_first_cache_is_what_its_memory_says(model_folder: Path, monkeypatch: pytest.MonkeyPatch, weights: Any):
    """With a made-up query of its memory, as `troop engine` asks it at defaults."""
    model = copy_into_engine(weights)
    made: list[int] = []

    class Caught(Exception):
        pass

    def core(model: Any, tokenizer: Any, blocks: int, *rest: Any) -> Any:
        made.append(blocks)
        raise Caught

    monkeypatch.setattr(Model, "load", lambda *_, **__: model)
    monkeypatch.setattr("engine.server.process.Core", core)
    monkeypatch.setattr("engine.server.process.cost_rule", lambda *_: CutCost())
    monkeypatch.setattr(model, "use_attention", lambda name: None)
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    settings = Settings(model=str(model_folder), max_batch=4, prefill_chunk=16)
    step = largest_step(model, Limits(16, 4, 16))
    for free, blocks in ((1 << 40, (2 * 512 + 4 * 16) // 16), (step + 2 * 40 * 16 * model.shape.token_bytes, 40)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 1 << 41))
        with pytest.raises(Caught):
            build_core(settings)
        assert made[-1] == blocks
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 1 << 41))
    with pytest.raises(LoadError, match="lower --max-batch or --prefill-chunk"):
        build_core(settings)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"cache_tokens": 100}, "lower --cache-tokens$"),
        ({"cache_memory": 1 << 20}, "lower --cache-memory$"),
        ({"device": "cpu"}, "set --cache-memory to less"),
        ({"device": "cuda"}, "lower --gpu-memory-share, --max-batch or --prefill-chunk"),
    ],
)
def test_the_advice_names_what_sizes_the_cache(given: dict[str, Any], advice: str):
    assert re.search(advice, _smaller(Settings(**given)))


def test_memory_of_this_machine_and_of_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert (available(CPU) or 1) > 0
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   50 kB\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available(CPU) == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("30000\n")
    assert available(CPU) == 50 * 1024
    (tmp_path / "memory.max").write_text("40000\n")
    assert available(CPU) == 10_000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 7000\n")
    assert available(CPU) == 17_000
    assert size(3 << 29) == "1.5 GiB"
    assert size(12) == "12 bytes"


def test_a_watch_sees_what_was_taken_and_given_back():
    """In a process that holds little else: if memory is short, the kernel takes pages from a large one meanwhile."""
    look = (
        "import torch\nfrom engine.model.memory import Watch\n"
        "def seen():\n    watch = Watch(torch.device('cpu'))\n    torch.ones(64 << 20, dtype=torch.uint8)\n"
        "    return watch.peak()\n"
        "raise SystemExit(not any(seen() > 50 << 20 for _ in range(20)))\n"
    )
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0


def test_resizing_starts_over(make_core: Callable[..., Core]):
    core = make_core(blocks=20)
    core.run([Request([5] * 30, SamplingParams(max_tokens=3))])
    core.resize(50)
    assert core.scheduler.allocator.free == 50
    core.run([Request([5] * 30, SamplingParams(max_tokens=3))])
    core.scheduler.check_integrity()
