"""Lack of memory shows at start, with a message that names the setting."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import warmup
from engine.cli import main
from engine.core import Core
from engine.errors import LoadError
from engine.model import memory
from engine.model.memory import Watch, available, size
from engine.model.model import Model, StepInput
from engine.schedule.sequence import Request, SamplingParams
from engine.server.process import build_core
from engine.settings import Settings
from engine.warmup import blocks_that_fit, warm_up
from tests.engine.test_greedy import check, prompts
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def failing_above(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception | None = None) -> list[int]:
    """Models that raise if a step has more than `rows` rows, and the sizes of all steps."""
    real = Model.forward
    seen: list[int] = []

    def forward(model: Model, step: StepInput) -> Any:
        seen.append(step.tokens.shape[0])
        if step.tokens.shape[0] > rows:
            raise error or torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        return real(model, step)

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
    blocks = blocks_that_fit(core, total - model - cache, total, cache, peak, 0.9)
    assert blocks == ((total * 9 // 10) - model - peak) // block
    with pytest.raises(LoadError, match="raise --gpu-memory-share"):
        blocks_that_fit(core, total - model, total, 0, peak, 0.3)


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
