"""The dtype that `--dtype auto` chooses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from engine.model import dtypes
from engine.model.dtypes import resolve_dtype
from engine.model.model import Model

REAL = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "vocab_size": 151_936}
TINY = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "vocab_size": 4_096}


def config(dtype: str, **sizes: Any) -> LlamaConfig:
    return LlamaConfig(dtype=dtype, **sizes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CPU whose abilities a test chooses."""

    def set_up(multiplies: bool = True, many: float = 4.0, room: int | None = None) -> None:
        monkeypatch.setattr(dtypes, "_multiplies", lambda dtype: multiplies)
        monkeypatch.setattr(dtypes, "_speedup", lambda dtype, config: many)
        monkeypatch.setattr(dtypes, "available", lambda device: room)

    return set_up


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_what_is_asked_for_is_taken(asked: str, place: str):
    assert resolve_dtype(asked, config("bfloat16", **REAL), place) == getattr(torch, asked)


@pytest.mark.parametrize(("own", "taken"), [("float32", "bfloat16"), ("bfloat16",) * 2, ("float16",) * 2])
def test_a_gpu_takes_the_checkpoints_own_of_16_bits(own: str, taken: str):
    assert resolve_dtype("auto", config(own, **TINY), "cuda") == getattr(torch, taken)


@pytest.mark.parametrize("own", ["bfloat16", "float16"])
def test_a_cpu_that_multiplies_16_bit_numbers_faster_takes_them(machine: Any, own: str):
    machine()
    assert resolve_dtype("auto", config(own, **REAL), "cpu") == getattr(torch, own)


@pytest.mark.parametrize(
    "cpu",
    [{"multiplies": False}, {"many": 0.6}, {"many": 1.1}],
    ids=["no-units", "slower", "hardly-faster"],
)
def test_any_other_cpu_takes_float32(machine: Any, cpu: dict[str, Any]):
    machine(**cpu)
    assert resolve_dtype("auto", config("bfloat16", **REAL), "cpu") == torch.float32


def test_float32_is_never_rounded(machine: Any):
    machine()
    assert resolve_dtype("auto", config("float32", **REAL), "cpu") == torch.float32


def test_a_small_model_stays_exact(machine: Any):
    machine()
    assert resolve_dtype("auto", config("bfloat16", **TINY), "cpu") == torch.float32


def test_what_does_not_fit_in_float32_is_loaded_as_it_is(machine: Any):
    machine(multiplies=False, room=5 << 30)  # Qwen2.5-Coder-1.5B: 3 GB in bfloat16, 6 in float32
    assert resolve_dtype("auto", config("bfloat16", **REAL), "cpu") == torch.bfloat16


def test_the_trial_runs_here(caplog: pytest.LogCaptureFixture):
    """On any machine there is a result, and a line that says why."""
    small = REAL | {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 50}
    with caplog.at_level("INFO"):
        assert resolve_dtype("auto", config("bfloat16", **small), "cpu") in (torch.bfloat16, torch.float32)
    assert "dtype" in caplog.text


def test_the_model_is_loaded_in_it(monkeypatch: pytest.MonkeyPatch, model_folder: Path):
    monkeypatch.setattr("engine.model.model.resolve_dtype", lambda asked, config, place: torch.bfloat16)
    assert Model.load(str(model_folder)).dtype == torch.bfloat16
