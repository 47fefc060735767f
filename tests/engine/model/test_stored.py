"""Weights are read one by one into the model, with progress, and what is wrong with their files is named."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import LoadError
from engine.model import dequantize, model, stored
from engine.model.model import Model
from engine.model.quantized import Quantized
from engine.model.stored import Progress, open_weights
from tests.engine.conftest import make_weights
from tests.engine.model.test_dequantize import checkpoint, fp8_rows, same

FP8: dict[str, Any] = {"quant_method": "fp8"}


def split(folder: Path, files: int = 3) -> list[Path]:
    """Cut `model.safetensors` into several files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-{at % files}.safetensors" for at, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return sorted(folder / file for file in set(places.values()))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for log in (stored._log, model._log, dequantize._log):
        for level in ("info", "warning"):
            monkeypatch.setattr(log, level, lambda text, *values: found.append(text % values))
    return found


class Live:
    """Counts the tensors that a function gave and that are not gone yet, at each of its calls."""

    def __init__(self, call: Callable[[Quantized], Tensor]) -> None:
        self._call = call
        self._given: list[weakref.ref[Tensor]] = []
        self.counts: list[int] = []

    def __call__(self, weight: Quantized) -> Tensor:
        self.counts.append(self.now())
        found = self._call(weight)
        self._given.append(weakref.ref(found))
        return found

    def now(self) -> int:
        return sum(given() is not None for given in self._given)


def test_a_weight_is_dequantised_when_the_one_before_is_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint(tmp_path, make_weights(), fp8_rows, FP8)
    live = Live(Quantized.plain)
    monkeypatch.setattr(Quantized, "plain", lambda self: live(self))
    Model.load(str(tmp_path), dtype="bfloat16")
    assert live.counts == [0] * 14, "seven linears in each of two layers, one in float32 at a time"


def test_experts_are_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`transformers` makes one tensor of a layer's experts; none of those in the file is left beside it."""
    weights = make_weights("Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    for layer in weights.model.layers:
        layer.mlp.experts.requires_grad_(False)
    weights.save_pretrained(tmp_path)
    given: list[weakref.ref[Tensor]] = []
    left: list[int] = []
    read = stored.Stored.__getitem__

    def watched(self: stored.Stored, index: object) -> Tensor:
        found = read(self, index)
        if "experts" in self._name:
            given.append(weakref.ref(found))
        return found

    finish = Progress.finish

    def finished(self: Progress) -> None:
        left.append(sum(each() is not None for each in given))
        finish(self)

    monkeypatch.setattr(stored.Stored, "__getitem__", watched)
    monkeypatch.setattr(Progress, "finish", finished)
    same(Model.load(str(tmp_path), dtype="float32"), weights)
    assert len(given) == 2 * 4 * 3
    assert left == [0]


def test_several_files_are_read_with_progress(tmp_path: Path, told: list[str]):
    expected = checkpoint(tmp_path, make_weights(), fp8_rows, FP8)
    split(tmp_path)
    same(Model.load(str(tmp_path), dtype="float32"), expected)
    assert any("3 of 3 files of weights" in line for line in told)


def test_progress_is_told_once_in_a_while(told: list[str]):
    clock = [0.0]
    progress = Progress("model", lambda: clock[0])
    for at in range(4):
        progress.expect(str(at), Path(f"{at // 2}.safetensors"), 1 << 20)
    for at, now in enumerate((1.0, 6.0, 7.0)):
        clock[0] = now
        progress.read(str(at))
        progress.read(str(at))  # another part of it
    progress.finish()
    assert told == [
        "model: 1 of 2 files of weights, 2.0 MiB of 4.0 MiB read, about 6 s left",
        "model: 1 of 2 files of weights, 3.0 MiB of 4.0 MiB read, in 7.0 s",
    ]


def cut_short(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-8])


def remove(files: list[Path]) -> None:
    files[1].unlink()


def double(files: list[Path]) -> None:
    save_file(load_file(files[0]) | load_file(files[1]), files[1])


DAMAGES = {
    "truncated": (cut_short, r"model-1\.safetensors is missing, cut short or damaged"),
    "missing": (remove, r"model-1\.safetensors is missing, cut short or damaged"),
    "doubled": (double, r"lm_head\.weight is in model-0\.safetensors and in model-1\.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named(damage: str, tmp_path: Path):
    make_weights().save_pretrained(tmp_path)
    spoil, message = DAMAGES[damage]
    spoil(split(tmp_path))
    with pytest.raises(LoadError, match=message):
        Model.load(str(tmp_path), dtype="float32")


def test_files_beside_those_of_the_index_are_not_read(tmp_path: Path):
    weights = make_weights()
    weights.save_pretrained(tmp_path)
    split(tmp_path)
    save_file({"layers.0.attention.wq.weight": torch.zeros(4)}, tmp_path / "consolidated.safetensors")
    assert set(open_weights(tmp_path, Progress("model"))) == set(weights.state_dict())


def test_a_tensor_that_is_no_part_of_the_model_is_told(tmp_path: Path, told: list[str]):
    weights = make_weights()
    weights.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(1)}, file)
    same(Model.load(str(tmp_path), dtype="float32"), weights)
    assert any("1 of its tensors are no part of the model, model.layers.0.mlp.up_proj.weight_scale" in x for x in told)
