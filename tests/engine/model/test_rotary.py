"""Rotations that are put off until the keys are stored, and models that rotate in another way."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.glm import modeling_glm
from transformers.models.llama import modeling_llama

from engine.core import Core
from engine.model.fused_ops import REFERENCE, triton_ops
from engine.model.rotary import RotaryError, _PutOff, can_put_off, fetch, pays, putting_off, undeferred
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.test_greedy import ARCHITECTURES, check, prompts
from tests.kernels.interpreting import DEVICE, interpret

interpret()
pytestmark = pytest.mark.gpu


def inputs(dim: int = 8, rotary: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    angles = torch.randn(1, 5, rotary // 2).repeat(1, 1, 2)
    return torch.randn(1, 4, 5, dim), torch.randn(1, 2, 5, dim), angles.cos(), angles.sin()


KNOWN = ["qwen2", "qwen3", "mistral", "llama-tied-one-kv-head", "llama-3-rope", "olmo2", "phi3-merged-by-itself"]


@pytest.mark.parametrize("name", [*KNOWN, "gpt-neox", "gemma"])
def test_known_families_put_rotations_off(name: str):
    kind, changes = ARCHITECTURES.get(name, ("Gemma", {}))
    model = make_weights(kind, **{key: value for key, value in changes.items() if value is not None})
    assert copy_into_engine(model)._rotary


def test_a_model_that_rotates_neighbours_is_left_alone(make_core: Callable[..., Core]):
    """GLM pairs numbers 0 and 1, 2 and 3: another rotation of the same name and arguments."""
    weights = make_weights("Glm", partial_rotary_factor=0.5, pad_token_id=0)
    core = make_core(other=weights)
    assert not core.model._rotary
    check(core, weights, prompts(3, 20, 10), 6)


@pytest.mark.parametrize("name", ["qwen3", "gpt-neox"])
def test_greedy_text_with_everything_fused_by_triton(make_core: Callable[..., Core], name: str):
    kind, changes = ARCHITECTURES[name]
    weights = make_weights(kind, **{key: value for key, value in changes.items() if value is not None})
    core = make_core(other=weights, device=DEVICE)
    assert core.model._rotary
    core.model._ops = triton_ops()
    check(core, weights, prompts(2, 4, 2, seed=3), 2)


def test_the_store_alone_by_triton(make_core: Callable[..., Core], weights: Any):
    core = make_core(device=DEVICE)
    core.model._ops, core.model._rotary = triton_ops(), False
    check(core, weights, prompts(2, 4, 2, seed=3), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wrong", [False, True])
def test_another_rotation_of_one_small_head_is_seen(dtype: torch.dtype, wrong: bool):
    """Beside a head, and a feature of each, whose keys are far larger."""

    def original(*args: Tensor) -> tuple[Tensor, Tensor]:
        query, key = undeferred(modeling_llama.apply_rotary_pos_emb)(*args)
        if wrong:
            key[:, 1] = key[:, 1].roll(1, dims=1)
        return query, key

    query, key, cos, sin = (x.to(dtype) for x in inputs(64, 64))
    key[:, 0] *= 100
    key[..., 5] *= 100
    key[:, 1] /= 100
    with putting_off(checked=True):
        with pytest.raises(RotaryError, match="of another form") if wrong else nullcontext():
            _PutOff(original)(query, key, cos, sin)
        fetch(query, key)


def test_models_beside_the_engine_rotate_as_ever():
    q, k, cos, sin = inputs()
    expected = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    assert can_put_off(make_weights())
    assert can_put_off(make_weights())  # once more changes nothing
    assert not hasattr(modeling_llama.apply_rotary_pos_emb.original, "original")
    for found in (
        modeling_llama.apply_rotary_pos_emb(q, k, cos, sin),
        modeling_llama.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1),
    ):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    with putting_off(False):
        torch.testing.assert_close(modeling_llama.apply_rotary_pos_emb(q, k, cos, sin), expected, atol=0, rtol=0)


def test_what_is_put_off_is_fetched_with_the_same_tensors():
    can_put_off(make_weights())
    q, k, cos, sin = inputs()
    with putting_off():
        assert fetch(q, k) is None
        query, key = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
        tables = fetch(query, key)
        assert tables is not None
        assert torch.equal(tables.cos, cos[0])
        assert torch.equal(tables.sin, sin[0])
        assert fetch(query, key) is tables, "a layer that attends twice: they are still not rotated"
        assert fetch(query.clone(), key) is None


def _changed(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    query, key = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    fetch(query * 1.0, key)


def _never_fetched(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)


def _twice(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)


def _other_arguments(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    modeling_llama.apply_rotary_pos_emb(q, k, cos, sin, 1)


def _of_another_form(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    modeling_glm.apply_rotary_pos_emb(q, k, cos, sin)


WRONG: dict[str, tuple[Callable[..., None], str]] = {
    "changed": (_changed, "changed between"),
    "never-fetched": (_never_fetched, "never fetched"),
    "twice": (_twice, "never fetched"),
    "other-arguments": (_other_arguments, "unknown arguments"),
    "of-another-form": (_of_another_form, "another form"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_put_off_is_seen(name: str):
    can_put_off(make_weights())
    can_put_off(make_weights("Glm", pad_token_id=0))
    function, message = WRONG[name]
    with pytest.raises(RotaryError, match=message), putting_off(checked=True):
        function(*inputs())
    q, k, cos, sin = inputs()
    assert modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)[0] is not q  # nothing is left behind


def test_a_cpu_is_not_measured():
    assert pays(REFERENCE, 4, 2, 8, torch.zeros(1)) or DEVICE == "cuda"
