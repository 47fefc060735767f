"""Recurrent layers whose functions another package may compute: made up here, since the real ones need a GPU."""

import functools
import inspect
import logging
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.integrations.hub_kernels import use_kernel_func_from_hub_with_fallback
from transformers.models.qwen3_next import modeling_qwen3_next

from engine.model.attention import NAME, ProbeContext, attending
from engine.model.gate import logits_of
from engine.model.kernel_trial import error_of_a_token
from engine.model.packages import Either, keep_both
from engine.model.state_trials import ROUNDED, _error, try_packages
from engine.model.states import keep_states_apart
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.kinds.tiny import SIZES

STATES: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
} | {name: size for name, size in SIZES.items() if name.startswith("linear_")}
WHOLE, STEP = "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"
Function = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def in_torch(name: str) -> Function:
    function = getattr(modeling_qwen3_next, name)
    own = (
        function._own if isinstance(function, Either) else inspect.getclosurevars(function).nonlocals["torch_function"]
    )
    return own  # type: ignore[no-any-return]


def install(monkeypatch: pytest.MonkeyPatch, make: Callable[[Function], Function]) -> None:
    """A package `fla` with both functions, made of torch's; bound as `transformers` does when it is imported."""
    package = types.ModuleType("fla")
    monkeypatch.setitem(sys.modules, "fla", package)
    for at, name in ((WHOLE, "chunk_gated_delta_rule"), (STEP, "fused_recurrent_gated_delta_rule")):
        made = functools.wraps(in_torch(at))(make(in_torch(at)))  # `transformers` hands over what the signature names
        setattr(package, name, made)
        bound = use_kernel_func_from_hub_with_fallback(name, "fla")(in_torch(at))
        monkeypatch.setattr(modeling_qwen3_next, at, bound)


def same(function: Function) -> Function:
    return lambda *args, **kwargs: function(*args, **kwargs)


def rounded(function: Function) -> Function:
    return lambda *args, **kwargs: (function(*args, **kwargs)[0] * 1.001, function(*args, **kwargs)[1])


def wrong(function: Function) -> Function:
    return lambda *args, **kwargs: (function(*args, **kwargs)[0] * 1.2, function(*args, **kwargs)[1])


def forgetful(function: Function) -> Function:
    """Begins anew with each call."""
    return lambda *args, **kwargs: function(*args, **kwargs | {"initial_state": None})


def failing(function: Function) -> Function:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("0 active drivers")

    return fail


@pytest.mark.parametrize(
    ("make", "taken", "told"),
    [
        (same, True, ""),
        (rounded, True, ""),
        (wrong, False, "not by flash-linear-attention: they err by 0."),
        (forgetful, False, "not by flash-linear-attention: they err by"),
        (failing, False, "not by flash-linear-attention: RuntimeError: 0 active drivers"),
    ],
)
def test_a_package_computes_layers_where_it_agrees_with_torch(
    make: Callable[[Function], Function],
    taken: bool,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    install(monkeypatch, make)
    weights = make_weights("Qwen3Next", **STATES)
    weights.set_attn_implementation(NAME)
    layers = keep_states_apart(weights)
    tokens = torch.arange(150) * 7919 % 300

    def run() -> torch.Tensor:
        with attending(ProbeContext()), torch.inference_mode():
            return logits_of(weights, tokens, torch.arange(150), torch.arange(150))

    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        try_packages(layers, torch.float32, run)
    assert [layer.by_packages for layer in layers] == [taken] * len(layers)
    assert len(layers) == 1
    assert told in caplog.text
    assert ("not by" in caplog.text) == (not taken)
    assert "pip install causal-conv1d" in caplog.text


def test_on_a_cpu_packages_compute_nothing(monkeypatch: pytest.MonkeyPatch):
    """Their kernels need a GPU, and `transformers` binds them all the same."""
    install(monkeypatch, failing)
    model = copy_into_engine(make_weights("Qwen3Next", **STATES))
    (layer,) = keep_states_apart(model._inner)
    assert any(each.installed for each in layer.functions)
    assert not layer.by_packages


def test_what_a_layer_is_compared_with_is_torch(monkeypatch: pytest.MonkeyPatch):
    """Outside of the engine's steps no package computes, nor beside a layer that takes them."""
    install(monkeypatch, failing)
    weights = make_weights("Qwen3Next", **STATES)
    (layer,) = keep_states_apart(weights)
    layer.by_packages = True
    with torch.inference_mode():
        assert torch.isfinite(weights(torch.arange(20)[None], use_cache=False).logits).all()
    assert {each.package for each in keep_both(layer_module(weights)) if each.installed} == {"fla"}


def layer_module(weights: Any) -> torch.nn.Module:
    module: torch.nn.Module = weights.model.layers[0].linear_attn
    return module


HEADS, TOKENS, FEATURES = 128, 200, 1024


def heads_and_product(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """`[tokens, heads * 4]` of a layer's heads, and its last product, in the sizes of real models: a few features are
    300 times as large as others, and so is the first token.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = torch.randn(TOKENS, HEADS * 4, generator=generator)
    heads[0] *= 300
    product = torch.randn(FEATURES, HEADS * 4, generator=generator) / 23
    product[[3, 500, 900]] *= 300
    return heads, product


def rounding_of(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """As bfloat16 stores what heads give, and the layer."""
    return (heads.bfloat16().float() @ product.bfloat16().float().T).bfloat16()[None]


def test_rounding_of_large_features_is_no_reason_to_refuse():
    heads, product = heads_and_product()
    whole = rounding_of(heads, product)
    other = rounding_of(heads * (1 + 2**-9), product)  # rounded the other way, here and there
    assert _error(other, whole) > 0.3, "the largest error is that of the largest numbers"
    assert error_of_a_token(other, whole) < ROUNDED / 3


def dropped(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    heads = heads.clone()
    heads[:, 8:12] = 0
    return rounding_of(heads, product)


def with_a_wrong_token(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    return rounding_of(torch.cat([heads[:150], heads[151:152], heads[151:]]), product)


def scaled(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    return rounding_of(heads * 1.07, product)


def wrong_but_in_large_features(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    found = rounding_of(heads.roll(1, 0), product)
    large = [3, 500, 900]
    found[..., large] = rounding_of(heads, product)[..., large]
    return found


def without_a_number(heads: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    found = rounding_of(heads, product)
    found[0, 77, 5] = torch.nan
    return found


@pytest.mark.parametrize("wrong", [dropped, with_a_wrong_token, scaled, wrong_but_in_large_features, without_a_number])
def test_what_is_wrong_is_seen_beside_large_features(wrong: Callable[..., torch.Tensor]):
    heads, product = heads_and_product()
    whole = rounding_of(heads, product)
    assert error_of_a_token(wrong(heads, product), whole) > ROUNDED
    assert error_of_a_token((whole, wrong(heads, product)), (whole, whole)) > ROUNDED
