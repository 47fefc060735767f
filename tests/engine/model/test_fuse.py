"""Fused modules give the results of the model's own code; modules that they would change are not fused."""

import copy
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from engine.model import fuse as module
from engine.model.fuse import fuse, merge_linears
from engine.model.fused_ops import REFERENCE, Trials, close, ops_for, triton_ops
from tests.engine.conftest import VOCABULARY, make_weights
from tests.kernels.interpreting import DEVICE, interpret

interpret()
pytestmark = pytest.mark.gpu
OPS = {"torch": dataclasses.replace(REFERENCE, one_pass=True), "triton": triton_ops()}
KINDS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {  # norms, gates, layers that are fused
    "llama": ("Llama", {}, (5, 2, 2)),
    "llama-odd-sizes": ("Llama", {"hidden_size": 72, "intermediate_size": 100}, (5, 2, 2)),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True}, (5, 2, 2)),
    "llama-gelu": ("Llama", {"hidden_act": "gelu"}, (5, 0, 2)),
    "qwen2": ("Qwen2", {}, (5, 2, 2)),
    "qwen3-norms-of-heads": ("Qwen3", {}, (9, 2, 2)),
    "mistral": ("Mistral", {"sliding_window": None}, (5, 2, 2)),
    "olmo2-norms-after": ("Olmo2", {}, (9, 2, 0)),
    "phi3-merged-by-itself": ("Phi3", {}, (5, 2, 0)),  # its layers have dropouts between
    "gemma-one-plus-weight": ("Gemma", {}, (5, 0, 2)),
    "granite-scaled-residual": ("Granite", {"residual_multiplier": 0.5}, (5, 2, 0)),
    "gpt-neox": ("GPTNeoX", {"num_key_value_heads": None, "head_dim": None}, (0, 0, 0)),
}


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        tokens = torch.arange(4, 13, device=DEVICE)[None] * 7 % VOCABULARY
        found: Tensor = model(tokens, use_cache=False).logits[0].float()
    return found


INTERPRETED = ["llama-odd-sizes", "qwen3-norms-of-heads", "olmo2-norms-after", "gemma-one-plus-weight"]
CASES = [(kind, "torch", dtype) for kind in KINDS for dtype in ("float32", "float16", "bfloat16")]
CASES += [(kind, "triton", dtype) for kind in INTERPRETED for dtype in ("float32", "float16")]
if DEVICE == "cuda":
    CASES = [(kind, "triton", dtype) for kind in KINDS for dtype in ("float32", "float16", "bfloat16")]


@pytest.mark.parametrize(("kind", "ops", "dtype"), CASES, ids=["-".join(case) for case in CASES])
def test_logits_stay(kind: str, ops: str, dtype: str):
    """The fused logits are as close to float32's as those of the model's own code."""
    name, changes, expected = KINDS[kind]
    model = make_weights(name, **{key: value for key, value in changes.items() if value is not None})
    truth = logits(model.to(DEVICE))
    model = model.to(getattr(torch, dtype))
    own = logits(model)
    merge_linears(model)
    counts = fuse(model, OPS[ops])
    assert (counts["norm"], counts["gate"], counts["layer"]) == expected
    rounding = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for _ in range(2):  # nothing may stay from one step to the next
        assert distance(logits(model), truth) < 1.5 * distance(own, truth) + rounding


def distance(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, in standard deviations."""
    return float((found - expected).pow(2).mean().sqrt() / expected.std())


def test_a_model_that_was_not_merged_is_fused_as_far_as_it_goes():
    model = make_weights().to(DEVICE)
    before = logits(model)
    counts = fuse(model, OPS["torch"])
    assert (counts["norm"], counts["gate"], counts["layer"]) == (5, 0, 2)
    torch.testing.assert_close(logits(model), before, atol=1e-3, rtol=1e-4)


class _CentredRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))


class _OtherEpsRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        self.variance_epsilon, eps = 1e-3, self.variance_epsilon
        result: Tensor = super().forward(hidden_states)
        self.variance_epsilon = eps
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("kind", [_CentredRMSNorm, _OtherEpsRMSNorm, nn.LayerNorm], ids=lambda kind: kind.__name__)
def test_norms_of_another_formula_stay(kind: type[nn.Module], dtype: torch.dtype):
    torch.manual_seed(0)
    norm = kind(48)
    norm.weight.data.normal_()
    model = nn.Sequential(norm.to(dtype))
    assert not fuse(model, REFERENCE)["norm"]
    assert model[0] is norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("kind", [LlamaRMSNorm, GemmaRMSNorm], ids=lambda kind: kind.__name__)
def test_norms_of_both_formulas_are_told_apart(kind: type[nn.Module], dtype: torch.dtype):
    torch.manual_seed(0)
    norm = kind(48).to(dtype)
    norm.weight.data.normal_(0, 0.5)
    model = nn.Sequential(copy.deepcopy(norm))
    assert fuse(model, REFERENCE)["norm"] == 1
    x = torch.randn(3, 48).to(dtype)
    assert close(model(x), norm(x))
    assert model(x).dtype == dtype


class _Swapped(nn.Module):
    """A gated MLP whose merged product has `up` first."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(16, 48)
        self.down_proj = nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = self.gate_up_proj(x).chunk(2, dim=-1)
        down: Tensor = self.down_proj(nn.functional.silu(gate) * up)
        return down


def test_a_gate_whose_halves_are_swapped_stays():
    model = nn.Sequential(_Swapped())
    assert fuse(model, REFERENCE)["gate"] == 0
    assert "forward" not in vars(model[0])


class _Clipped(_Swapped):
    """A gated MLP that clips what is more than ten, which a usual input never reaches."""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        down: Tensor = self.down_proj(nn.functional.silu(gate.clamp(max=10.0)) * up.clamp(-10.0, 10.0))
        return down


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_gate_that_clips_stays(dtype: torch.dtype):
    model = nn.Sequential(_Clipped()).to(DEVICE, dtype)
    assert fuse(model, REFERENCE)["gate"] == 0


def with_one_wrong(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Two of a row's numbers swapped."""

    def swapped(*args: Any) -> Tensor:
        found = function(*args)
        found[..., [5, 6]] = found[..., [6, 5]]
        return found

    return swapped


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("wrong", [False, True])
def test_one_number_of_many_is_seen(dtype: torch.dtype, wrong: bool):
    """In sizes of real models: first layers' norms have weights of some hundredths, and a few features are large."""
    torch.manual_seed(0)
    norm, mlp = LlamaRMSNorm(2048), LlamaMLP(LlamaConfig(hidden_size=1024, intermediate_size=4096))
    norm.weight.data.uniform_(0.005, 0.015)
    norm.weight.data[[3, 500]] = 4.0
    mlp.down_proj.weight.data[[3, 500]] *= 300
    model = nn.ModuleList([norm, mlp]).to(dtype)
    ops = REFERENCE
    if wrong:
        ops = dataclasses.replace(ops, rms_norm=with_one_wrong(ops.rms_norm), silu_mul=with_one_wrong(ops.silu_mul))
    merge_linears(model)
    counts = fuse(model, ops)
    assert (counts["norm"], counts["gate"]) == ((0, 0) if wrong else (1, 1))


class _Louder(nn.Module):
    """A gated MLP that computes one output in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(64, 512)
        self.down_proj = nn.Linear(256, 64)
        self.down_proj.weight.data[[3, 50]] *= 300

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        down: Tensor = self.down_proj(nn.functional.silu(gate) * up)
        down[..., 8:16] *= 1.5
        return down


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
def test_a_gate_that_differs_in_small_outputs_stays(dtype: torch.dtype):
    model = nn.Sequential(_Louder()).to(DEVICE, dtype)
    assert fuse(model, REFERENCE)["gate"] == 0


def test_a_told_result_is_for_its_tensor_alone():
    norm = module._FusedRMSNorm(torch.ones(8), 1e-6, REFERENCE)
    x, other = torch.randn(2, 8), torch.randn(2, 8)
    norm.tell(x, torch.full((2, 8), 7.0))
    assert (norm(x) == 7.0).all()
    assert not (norm(x) == 7.0).any()
    norm.tell(x, torch.full((2, 8), 7.0))
    assert not (norm(other) == 7.0).any()
    assert not (norm(x) == 7.0).any()  # forgotten


def test_layers_take_their_arguments_by_name():
    model = make_weights()
    fuse(model, OPS["torch"])
    with pytest.raises(TypeError, match="by name"):
        model.model.layers[0](torch.zeros(1, 2, 64), None)


def test_the_cpu_gets_torch():
    assert ops_for(torch.device("cpu"), torch.float32) is REFERENCE


@pytest.mark.parametrize("faster", [True, False])
def test_a_gpu_is_asked_once_what_pays(faster: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    import triton.testing

    asked = []

    def measure(function: Any, rep: int) -> float:
        asked.append(function)
        return 0.002 if (function == "fused") == faster else 0.003  # milliseconds

    monkeypatch.setattr(triton.testing, "do_bench_cudagraph", measure)
    trials = Trials(torch.device("cuda"))
    with caplog.at_level(logging.INFO):
        answers = [trials.pays("RMS norm", 64, lambda: ("fused", "plain")) for _ in range(2)]  # type: ignore
    assert answers == [faster, faster]
    assert asked == ["fused", "plain"]
    assert caplog.text.count("fused RMS norm of 64 numbers: ") == 1
    assert ("model's own code" in caplog.text) is not faster
    assert Trials(torch.device("cpu")).pays("RMS norm", 64, lambda: pytest.fail("measured on a CPU"))
