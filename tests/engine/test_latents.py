"""Latent attention: the cache holds latents, and all heads attend over them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.model import backends
from engine.model.attention import NAME
from engine.model.latents import Latents, keep_latents, latents_of
from engine.model.model import Model
from engine.model.quantize import int8_of
from engine.model.quantized_linear import QuantizedLinear
from engine.model.upcast import float32_weights
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.kinds.tiny import LATENT
from tests.engine.test_greedy import SHARING, check, greedy, prompts

WIDTH = LATENT["kv_lora_rank"] + LATENT["qk_rope_head_dim"]
WIDE = LATENT | {"kv_lora_rank": 56}  # 64 numbers a token: the C kernel takes multiples of 32


@pytest.fixture(scope="module")
def youtu() -> Any:
    return make_weights("Youtu", attention="eager", **LATENT)


def attention_of(weights: Any) -> Any:
    return weights.model.layers[0].self_attn


def test_the_cache_holds_one_latent_a_token(youtu: Any, make_core: Callable[..., Core]):
    shape = make_core(other=youtu).model.shape
    assert (shape.kv_heads, shape.head_dim, shape.shared) == (1, WIDTH, LATENT["kv_lora_rank"])
    assert shape.token_bytes == shape.layers * WIDTH * 4
    assert make_core(30, other=youtu).model.cache_bytes == 30 * 8 * shape.token_bytes


@SHARING
@pytest.mark.parametrize("chunk", [7, 200])
def test_greedy_text_over_a_tree(make_core: Callable[..., Core], youtu: Any, chunk: int, cost: int):
    check(make_core(other=youtu, cost=cost, prefill_chunk=chunk), youtu, prompts(6, 30, 20), 12)


def test_products_with_latents_are_products_with_keys(youtu: Any):
    """In float64: scores, and means of values, for any weights of the mean."""
    module = attention_of(youtu).double()
    torch.manual_seed(0)
    latent, rotated = torch.randn(1, 1, 9, 16).double(), torch.randn(1, 1, 9, 8).double()
    query, weights = torch.randn(1, 4, 5, 24).double(), torch.rand(1, 4, 5, 9).double()
    keys, values = module.expand_kv(latent, rotated)
    latents = Latents(module, NAME)
    joined = torch.cat((latent, rotated), dim=-1)
    torch.testing.assert_close(latents.absorb(query) @ joined.mT, query @ keys.mT)
    mean = (weights @ joined).transpose(1, 2)
    torch.testing.assert_close(latents.values(mean), (weights @ values).transpose(1, 2))
    module.float()


def test_the_models_own_attention_makes_full_keys(youtu: Any):
    twin = copy_into_engine(youtu)._inner
    module = attention_of(twin)
    assert latents_of(module) is not None
    given = torch.randn(1, 1, 3, 16), torch.randn(1, 1, 3, 8)
    assert module.expand_kv(*given)[0].shape == (1, 1, 3, WIDTH)
    twin.set_attn_implementation("eager")
    assert module.expand_kv(*given)[0].shape == (1, 4, 3, 24)


def test_by_the_c_kernel_in_bfloat16(make_core: Callable[..., Core]):
    """Its text is about that of torch's attention: rounding may part them somewhere."""
    weights = make_weights("Youtu", attention="eager", **WIDE)
    texts = prompts(8, 30, 20)
    told = []
    for name in ("auto", "torch"):
        core = make_core(other=weights, dtype=torch.bfloat16)
        core.model.use_attention(name)
        if name == "auto" and not isinstance(core.model.backend, backends.NativeBackend):
            pytest.skip("this processor lacks AVX-512 BF16, or no compiler")
        core.run(requests := [greedy(text, 6) for text in texts])
        told.append([request.sequences[0].tokens for request in requests])
    assert sum(one == other for one, other in zip(*told, strict=True)) > len(texts) // 2


def test_in_8_bits_keys_and_values_have_one_scale(make_core: Callable[..., Core], youtu: Any):
    core = make_core(other=youtu, cache="fp8")
    assert all(scales.key == scales.value for scales in core.model.scales)
    assert core.model.shape.token_bytes == 2 * WIDTH
    core.run(requests := [greedy(text, 6) for text in prompts(5, 30, 20)])
    again = make_core(other=youtu, cache="fp8", cost=10**9, prefill_chunk=7)
    again.run(others := [greedy(text, 6) for text in prompts(5, 30, 20)])
    agree = [one.sequences[0].tokens == other.sequences[0].tokens for one, other in zip(requests, others, strict=True)]
    assert sum(agree) > len(agree) // 2


def test_a_quantised_weight_is_widened(youtu: Any):
    """And stays so: neither `--quantization` nor packing takes it."""
    twin = make_weights("Youtu", **LATENT)
    linear = QuantizedLinear(int8_of(attention_of(twin).kv_b_proj.weight.data), None, torch.float32)
    attention_of(twin).kv_b_proj = linear
    expected = linear.weight
    assert len(keep_latents(twin, NAME)) == 2
    found = attention_of(twin).kv_b_proj
    assert type(found) is torch.nn.Linear
    assert found.plain
    torch.testing.assert_close(found.weight, expected, rtol=0, atol=0)


def test_its_weight_is_not_quantised(make_core: Callable[..., Core], youtu: Any):
    core = make_core(other=youtu)
    quantised = Model(core.model._inner, quantization="int8")
    assert type(attention_of(quantised._inner).kv_b_proj.weight) is torch.nn.Parameter


def test_trials_in_float32_widen_it(youtu: Any):
    twin = make_weights("Youtu", **LATENT).bfloat16()
    keep_latents(twin, NAME)
    module, seen = attention_of(twin), []
    module.kv_a_layernorm.register_forward_hook(lambda *_: seen.append(module.kv_b_proj.weight.dtype))
    with float32_weights(twin), torch.inference_mode():
        twin(torch.arange(5)[None], use_cache=False)
    assert seen == [torch.float32]
    assert module.kv_b_proj.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("form", ["a bias", "no sizes"])
def test_other_forms_are_cached_in_full(form: str):
    """And served as well."""
    weights = make_weights("Youtu", **LATENT)
    for layer in weights.model.layers:
        if form == "a bias":
            layer.self_attn.kv_b_proj.bias = torch.nn.Parameter(torch.randn(4 * 28))
        else:
            layer.self_attn.v_head_dim = torch.tensor(12)
    weights.set_attn_implementation(NAME)
    shape = Model(weights).shape
    assert (shape.kv_heads, shape.planes, shape.shared) == (4, 2, 0)
