"""The gate at load: the engine computes what a model computes with `transformers`' own attention."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama

from engine.errors import LoadError, UnsupportedModelError
from engine.model import gate
from engine.model.attention import NAME
from engine.model.experts import expert_modules, keep, weight_of
from engine.model.model import Model
from engine.model.quantized import Packed
from engine.model.quantized_linear import QuantizedLinear
from engine.model.upcast import float32_weights
from kernels.expert_linear.weight import ExpertWeight
from kernels.tree_attention.reach import FULL, Reach
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import QWEN4, SIZES

LENGTH = 512  # of the test model's context


def twin_of(weights: Any, dtype: torch.dtype = torch.float32) -> Any:
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    return twin.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("window", [8, 300, LENGTH - 1])
def test_a_window_of_the_models_own_masks_is_found(
    monkeypatch: pytest.MonkeyPatch, weights: Any, window: int, dtype: torch.dtype
):
    """No configuration names it, and our attention gets no mask."""
    causal = modeling_llama.create_causal_mask

    def windowed(*args: Any, **kwargs: Any) -> Any:
        return causal(*args, **kwargs, and_mask_function=lambda batch, head, q, kv: kv > q - window)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", windowed)
    assert Model(twin_of(weights, dtype)).reaches == (Reach(window=window),)
    assert Model(twin_of(weights, dtype), longest=min(window, LENGTH)).reaches == (FULL,)


@pytest.mark.parametrize("window", [7, 100, 400])
def test_a_window_longer_than_the_text_of_the_trial_is_found(
    monkeypatch: pytest.MonkeyPatch, weights: Any, window: int
):
    monkeypatch.setitem(gate.LONGEST_HOLLOW, "cpu", 64)
    causal = modeling_llama.create_causal_mask

    def chunked(*args: Any, **kwargs: Any) -> Any:
        return causal(*args, **kwargs, and_mask_function=lambda batch, head, q, kv: kv // window == q // window)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", chunked)
    assert Model(twin_of(weights)).reaches == (Reach(chunk=window),)


@pytest.mark.parametrize("length", [64, 1000])
def test_masks_of_other_patterns_are_refused(monkeypatch: pytest.MonkeyPatch, weights: Any, length: int):
    """Every second token; also where only the longest text would show it."""
    monkeypatch.setitem(gate.LONGEST_HOLLOW, "cpu", length)
    causal = modeling_llama.create_causal_mask

    def dilated(*args: Any, **kwargs: Any) -> Any:
        pattern = lambda batch, head, q, kv: (q - kv < 70) | ((q - kv) % 2 == 0)  # noqa: E731
        return causal(*args, **kwargs, and_mask_function=pattern)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", dilated)
    with pytest.raises(UnsupportedModelError, match="other tokens"):
        Model(twin_of(weights))


def test_what_flows_along_the_tokens_outside_of_attention_is_found(weights: Any):
    """A shift by one token, as convolutions and recurrent layers have it: texts that run together would mix."""
    twin = twin_of(weights)
    forward = twin.model.layers[1].mlp.forward
    twin.model.layers[1].mlp.forward = lambda x: forward(x) + torch.nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
    with pytest.raises(UnsupportedModelError, match="depends on those before it"):
        Model(twin)


def test_attention_in_both_directions_is_found(monkeypatch: pytest.MonkeyPatch, weights: Any):
    monkeypatch.setattr(modeling_llama, "create_causal_mask", modeling_llama.create_causal_mask)
    causal = modeling_llama.create_causal_mask

    def prefix(*args: Any, **kwargs: Any) -> Any:
        return causal(*args, **kwargs, or_mask_function=lambda batch, head, q, kv: kv < 4)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", prefix)
    with pytest.raises(UnsupportedModelError, match="other tokens"):
        Model(twin_of(weights))


def _windowed(query: Any, key: Any) -> Any:
    rows, columns = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])[None]
    return (columns > rows - 300).float().log()


def _sink(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
    scores = query @ key.repeat_interleave(2, 1).mT * scaling + attention_mask
    scores = torch.cat([scores, torch.zeros_like(scores[..., :1])], dim=-1)  # a sink of score 0
    output = scores.softmax(-1)[..., :-1] @ value.repeat_interleave(2, 1)
    return output.transpose(1, 2).contiguous(), None


def _window(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
    scores = query @ key.repeat_interleave(2, 1).mT * scaling + attention_mask + _windowed(query, key)
    output = scores.softmax(-1).to(value.dtype) @ value.repeat_interleave(2, 1)
    return output.transpose(1, 2).contiguous(), None


def _cap(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
    scores = (query @ key.repeat_interleave(2, 1).mT * scaling / 50).tanh() * 50 + attention_mask
    output = scores.softmax(-1) @ value.repeat_interleave(2, 1)
    return output.transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", [_sink, _window, _cap])
def test_what_happens_inside_of_attention_modules_is_found(
    monkeypatch: pytest.MonkeyPatch, weights: Any, attention: Any, dtype: torch.dtype
):
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", attention)
    with pytest.raises(UnsupportedModelError, match=r"does not name.*in float32"):
        Model(twin_of(weights, dtype))


def test_a_model_whose_code_fails_is_refused_by_its_kind(weights: Any):
    twin = twin_of(weights)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("missing 1 required\npositional argument: 'sin'")

    twin.model.layers[1].mlp.forward = fail
    with pytest.raises(
        UnsupportedModelError, match=r"the code of llama models.*TypeError: missing 1 required positional"
    ):
        Model(twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_outliers_such_as_real_models_have_are_no_reason_to_refuse(weights: Any, dtype: torch.dtype):
    """Real models carry a few huge activations, whose rounding moves logits by tenths of a standard deviation."""
    changed = copy.deepcopy(weights)
    with torch.no_grad():
        changed.model.embed_tokens.weight[:, 3] *= 200
        changed.model.layers[0].mlp.down_proj.weight[5] *= 50
    assert Model(twin_of(changed, dtype)).dtype == dtype


def test_float16_that_overflows_is_told_with_the_way_out(weights: Any):
    changed = copy.deepcopy(weights)
    with torch.no_grad():
        changed.model.layers[0].mlp.down_proj.weight *= 3e4
        changed.model.layers[0].mlp.down_proj.weight.clamp_(-6e4, 6e4)
    with pytest.raises(LoadError, match="overflow in float16: serve it with --dtype bfloat16"):
        Model(twin_of(changed, torch.float16))


def test_damaged_weights_are_told(weights: Any):
    changed = copy.deepcopy(weights)
    with torch.no_grad():
        changed.model.layers[1].self_attn.q_proj.weight[3, 5] = float("nan")
    with pytest.raises(LoadError, match="not finite, not even in float32"):
        Model(twin_of(changed, torch.bfloat16))


def test_a_fault_of_ours_in_half_precision_is_found(monkeypatch: pytest.MonkeyPatch, weights: Any):
    merge = gate.merge_linears

    def wrong(model: nn.Module) -> int:
        count = merge(model)
        model.model.layers[0].mlp.down_proj.weight.mul_(1.1)  # type: ignore[union-attr, index]
        return count

    monkeypatch.setattr(gate, "merge_linears", wrong)
    with pytest.raises(UnsupportedModelError, match="in bfloat16 its logits err"):
        Model(twin_of(weights, torch.bfloat16))


@pytest.mark.parametrize(("experts", "refused"), [(0, True), (8, False)])
def test_a_tie_between_experts_may_fall_the_other_way(experts: int, refused: bool):
    reference = torch.randn(100, 32, generator=torch.Generator().manual_seed(0))
    found = reference.clone()
    found[60:] += 0.3  # one token was routed differently, and those after it attend to it
    config = type("Config", (), {"num_experts": experts})()
    if refused:
        with pytest.raises(UnsupportedModelError, match="first after 61 tokens"):
            gate._check_function(found, reference, config)
    else:
        gate._check_function(found, reference, config)
    with pytest.raises(UnsupportedModelError):
        gate._check_function(reference + 0.3, reference, config)


@pytest.mark.parametrize("kind", ["Llama", "Gemma", "Qwen3", "Mixtral"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_float32_weights_are_computed_with_and_given_back(kind: str, dtype: torch.dtype):
    changes = {"num_local_experts": 4, "num_experts_per_tok": 2} if kind == "Mixtral" else {}
    narrow = make_weights(kind, tie_word_embeddings=kind == "Llama", **changes).to(dtype)
    tokens = torch.arange(40)[None]
    before = {name: (tensor, tensor.clone()) for name, tensor in narrow.state_dict(keep_vars=True).items()}
    with torch.inference_mode():
        with float32_weights(narrow):
            found = narrow(tokens).logits
        assert found.dtype == torch.float32
        with float32_weights(narrow), pytest.raises(TypeError):
            narrow(input_ids=tokens, position_ids="none")
    after = narrow.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, value) for name, (tensor, value) in before.items())
    with torch.inference_mode():
        expected = copy.deepcopy(narrow).float()(tokens).logits
    if kind == "Gemma":  # scales what it looks up by a constant that it rounds to the weights' dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05 * expected.std().item())
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.std().item())


def test_float32_weights_widen_no_table_within_a_layer_with_a_state():
    """Qwen4's embeddings of several tokens are most of the model: what is looked up is widened."""
    narrow = make_weights("Qwen4ExpText", attention="eager", **SIZES | QWEN4).to(torch.bfloat16)
    table = narrow.model.layers[0].ple.ple_embedding.ngram_embedding
    seen: list[torch.dtype] = []
    table.register_forward_hook(lambda module, given, found: seen.append(module.weight.dtype))
    with torch.inference_mode(), float32_weights(narrow):
        assert narrow(torch.arange(40)[None]).logits.dtype == torch.float32
    assert seen == [torch.bfloat16]


def test_weights_of_few_bits_count_as_those_that_they_stand_for():
    """How long the trial's text is depends on them: experts that are kept would make it take minutes."""
    model = make_weights("Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    count = gate._weights(model)
    for module in list(expert_modules(model)):
        weight = weight_of(module, "down_proj")
        codes = torch.zeros(weight.shape, dtype=torch.int8)
        keep(module, "down_proj", ExpertWeight("int8", codes, torch.ones(*weight.shape[:2], 1)), 4)
    linear = model.model.layers[0].self_attn.q_proj
    packed = Packed("int4", torch.zeros(64, 32, dtype=torch.uint8), torch.ones(64, 2))
    model.set_submodule("model.layers.0.self_attn.q_proj", QuantizedLinear(packed, linear.bias, torch.float32))
    assert sum(parameter.numel() for parameter in model.parameters()) < count
    assert gate._weights(model) == count
