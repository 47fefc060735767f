"""Which backend computes attention, and with which tiles."""

import itertools
from typing import Any

import pytest
import torch

from engine.errors import LoadError
from engine.model.backends import NativeBackend, StepItems, TorchBackend, TritonBackend, calibrate, choose, use_tiles
from kernels.tree_attention.buffers import WorkBuffers
from kernels.tree_attention.calibrate import Grid
from kernels.tree_attention.cost import MeasuredCost, Sample
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.native import supports
from kernels.tree_attention.plan import Tiling
from tests.kernels.interpreting import interpret

interpret()


def test_choice_of_the_backend(monkeypatch: pytest.MonkeyPatch):
    heads, cpu = Heads(4, 2, 16, 4), torch.device("cpu")
    assert isinstance(choose("auto", cpu, heads), TorchBackend)
    small = Heads(4, 2, 32, 2)
    native = NativeBackend if supports(small) else TorchBackend
    assert isinstance(choose("auto", cpu, small, torch.bfloat16), native)
    assert isinstance(choose("auto", cpu, small, torch.float16), TorchBackend)
    assert isinstance(choose("torch", cpu, small, torch.bfloat16), TorchBackend)
    assert isinstance(choose("auto", torch.device("cuda"), heads), TritonBackend)
    assert isinstance(choose("torch", torch.device("cuda"), heads), TorchBackend)
    with pytest.raises(LoadError, match=r"heads of 512 numbers.*--attention-backend torch"):
        choose("auto", torch.device("cuda"), Heads(2, 1, 512, 2))
    with monkeypatch.context() as patch:
        patch.setattr("engine.model.backends._interpreted", lambda: False)
        with pytest.raises(LoadError, match="needs a GPU, the model is on cpu"):
            choose("triton", cpu, heads)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LoadError, match="pip install triton"):
        choose("triton", cpu, heads)


def test_a_calibration_chooses_among_tiles(monkeypatch: pytest.MonkeyPatch):
    """Times are made up: the wide tiles take half as long, but for the items themselves."""
    cpu = torch.device("cpu")
    backend = TritonBackend(Heads(8, 1, 64, 2))
    seen: list[int] = []

    def made_up(prepare: Any, heads: Heads, *rest: Any, **more: Any) -> list[Sample]:
        assert backend.tiling is not None
        seen.append(backend.tiling.large)
        truth = MeasuredCost(1.0, 50.0, 0.1, 0.1, 64 / backend.tiling.large, heads.group, backend.tiling.large)
        samples = []
        for sequences, tokens in itertools.product((2, 32, 96), (64, 512, 2048)):
            samples.append(Sample(sequences, tokens, True, 1e-6 * truth.shared(sequences, tokens)))
            samples.append(Sample(sequences, tokens, False, 1e-6 * truth.plain(sequences, tokens)))
        return samples

    monkeypatch.setattr("engine.model.backends.measure", made_up)
    found = calibrate(backend, torch.bfloat16, cpu, 16)
    assert seen == [64, 128]
    assert found.queries == 128
    use_tiles(backend, found.queries)
    assert isinstance(work := backend.prepare(StepItems([], 1, 16), cpu), WorkBuffers)
    assert work.tiling == Tiling(large=128, warps=8, programs=1)
    use_tiles(backend, 7)
    assert backend.tiling is None


def test_a_calibration_by_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "kernels.tree_attention.calibrate.measure.__defaults__", (16, Grid((2, 8, 32), (32, 256, 1024), 2), None)
    )
    found = calibrate(TorchBackend(Heads(4, 2, 16, 4)), torch.float32, torch.device("cpu"), 16)
    assert found.group == 2
    assert min(found.read, found.item, found.row) >= 0


def test_a_gpu_is_calibrated_over_the_items_of_its_steps(monkeypatch: pytest.MonkeyPatch):
    """Whose own tokens are one item, however many blocks follow one another."""
    grids: list[Grid] = []

    def seen(*_: Any, grid: Grid, **__: Any) -> list[Sample]:
        grids.append(grid)
        return [Sample(2, 16, shared, 1e-6) for shared in (True, False)]

    monkeypatch.setattr("engine.model.backends.measure", seen)
    calibrate(TritonBackend(Heads(8, 1, 64, 2)), torch.bfloat16, torch.device("cuda"), 16)
    assert all(grid.recorded and not grid.in_place for grid in grids)
    calibrate(TorchBackend(Heads(8, 1, 64, 2)), torch.bfloat16, torch.device("cuda"), 16)
    assert grids[-1].in_place
    assert not grids[-1].recorded
