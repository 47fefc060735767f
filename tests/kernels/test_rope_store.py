"""RoPE with the cache's update: the kernel against the definition, the definition against `transformers`."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb as apply_partial

import kernels.kv_store.reference
import kernels.kv_store.triton
from kernels.rope_store import reference
from kernels.rope_store import triton as kernel
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.poison import poisoned
from tests.kernels.test_rms_norm import TOLERANCE, TYPES, some

pytestmark = pytest.mark.gpu

SHAPES = {  # heads, kv_heads, tokens, head_dim, rotary
    "llama": (8, 2, 5, 64, 64),
    "one-token": (4, 4, 1, 32, 32),
    "one-kv-head": (5, 1, 3, 16, 16),
    "partial": (4, 2, 7, 64, 24),
    "odd-head-size": (3, 3, 4, 80, 80),
    "odd-half": (2, 1, 3, 20, 10),
    "more-heads-than-a-program": (28, 12, 2, 16, 16),
}


class Case:
    """Random inputs as a model gives them: heads cut out of one merged product, and caches full of NaN."""

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
        heads, kv_heads, tokens, dim, rotary = shape
        merged = some((tokens, (heads + 2 * kv_heads) * dim), dtype)
        parts = merged.split([heads * dim, kv_heads * dim, kv_heads * dim], dim=-1)
        self.query, self.key, self.value = (part.view(tokens, -1, dim).transpose(0, 1) for part in parts)
        angles = some((tokens, rotary // 2), torch.float32).mul(3).repeat(1, 2)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.caches = torch.full((2, kv_heads, 40, dim), torch.nan, dtype=dtype, device=DEVICE)
        self.slots = torch.randperm(40, device=DEVICE)[:tokens]

    def run(self, function: object) -> tuple[Tensor, Tensor]:
        """Rotated queries and both caches."""
        caches = self.caches.clone()
        tables = (self.cos, self.sin)
        assert callable(function)
        out = function(self.query, self.key, self.value, tables, caches[0], caches[1], self.slots)
        return out, caches


CASES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@CASES
def test_the_reference_is_transformers(shape: tuple[int, int, int, int, int]):
    case = Case(shape, torch.float32)
    apply = apply_partial if shape[3] != shape[4] else apply_rotary_pos_emb
    query, key = apply(case.query[None], case.key[None], case.cos[None], case.sin[None])
    out, caches = case.run(reference.rope_store)
    torch.testing.assert_close(out, query[0])
    torch.testing.assert_close(caches[0][:, case.slots], key[0])
    assert torch.equal(caches[1][:, case.slots], case.value)
    assert caches.isnan().sum() == caches.numel() * (40 - shape[2]) // 40


@CASES
@TYPES
def test_kernel(shape: tuple[int, int, int, int, int], dtype: torch.dtype):
    case = Case(shape, dtype)
    with poisoned():
        out, caches = case.run(kernel.rope_store)
    expected, expected_caches = case.run(reference.rope_store)
    torch.testing.assert_close(out, expected, **TOLERANCE[dtype])
    torch.testing.assert_close(caches, expected_caches, **TOLERANCE[dtype], equal_nan=True)
    assert torch.equal(caches[1].nan_to_num(7.0), expected_caches[1].nan_to_num(7.0))
    assert out.transpose(0, 1).is_contiguous()


def test_tables_whose_halves_differ_and_strided_inputs():
    case = Case((4, 2, 6, 32, 32), torch.float32)
    case.cos, case.sin = some((12, 32), torch.float32)[::2], some((12, 32), torch.float32)[::2]
    case.value = some((6, 32, 2), torch.float32).permute(2, 0, 1)  # its numbers are no neighbours
    for found, expected in zip(case.run(kernel.rope_store), case.run(reference.rope_store), strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)


@CASES
@TYPES
def test_store_alone(shape: tuple[int, int, int, int, int], dtype: torch.dtype):
    case = Case(shape, dtype)
    found, expected = case.caches.clone(), case.caches.clone()
    kernels.kv_store.triton.store(case.key, case.value, found[0], found[1], case.slots)
    kernels.kv_store.reference.store(case.key, case.value, expected[0], expected[1], case.slots)
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_layers_of_one_cache():
    """As the engine holds it: every layer is a view."""
    case = Case((4, 2, 6, 32, 32), torch.float32)
    cache = torch.full((3, 2, 2, 40, 32), torch.nan, device=DEVICE)
    tables = (case.cos, case.sin)
    kernel.rope_store(case.query, case.key, case.value, tables, cache[1, 0], cache[1, 1], case.slots)
    assert cache[0].isnan().all()
    assert cache[2].isnan().all()
    assert torch.equal(cache[1, 1][:, case.slots], case.value)


def test_refusals():
    case = Case((4, 2, 6, 32, 32), torch.float32)
    case.cos = case.cos[:, :31]
    with pytest.raises(ValueError, match="do not fit"):
        case.run(kernel.rope_store)
    case = Case((4, 2, 6, 32, 32), torch.float32)
    case.caches = case.caches.transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(ValueError, match="neighbouring slots"):
        case.run(kernel.rope_store)
    case.value = case.value[:1]
    with pytest.raises(ValueError, match="must agree"):
        case.run(kernel.rope_store)


COMPILED = {  # heads, kv_heads, head_dim, rotary
    "qwen-1.5b": (12, 2, 128, 128),
    "qwen-7b": (28, 4, 128, 128),
    "llama-1b": (32, 8, 64, 64),
    "gemma": (8, 8, 256, 256),
    "phi-3": (32, 8, 96, 96),
    "partial": (32, 8, 128, 32),
    "store-only": (0, 8, 128, 0),
}


@COMPILED_HERE
@pytest.mark.parametrize("shape", COMPILED.values(), ids=COMPILED)
def test_compiled(shape: tuple[int, int, int, int]):
    heads, kv_heads, dim, rotary = shape
    pointers = ["query", "key", "value", "cos", "sin", "key_cache", "value_cache", "out", "slots"]
    strides = [f"{each}_{kind}_stride" for each in ("query", "key", "value") for kind in ("token", "head")]
    check(
        kernel._rope_store,
        dict.fromkeys(pointers, "*bf16:16")
        | {"slots": "*i64:16", "cache_head_stride": "i32:16"}
        | dict.fromkeys(["key_factor", "value_factor", "largest"], "fp32")
        | dict.fromkeys([*strides, "cos_stride", "sin_stride"], "i32:16"),
        {"QUERY_HEADS": heads, "KV_HEADS": kv_heads, "DIM": dim, "ROTARY": rotary, "HEADS": 8}
        | kernel.blocks(dim, rotary),
        registers=56,
        shared=4096,
        label=f"rope_store {heads}+{kv_heads}x{dim}/{rotary}",
    )


@pytest.mark.skipif(DEVICE == "cuda", reason="takes memory only where it is written to, on a CPU")
def test_heads_that_are_billions_of_numbers_apart():
    """Of a cache whose heads begin so far apart that their places are no 32-bit numbers."""
    dim, far, heads = 16, 1 << 30, 3
    raw = torch.from_numpy(np.zeros(2 * far + (1 << 20), dtype=np.float16))
    caches = [raw.as_strided((heads, 100, dim), (far, dim, 1), first) for first in (0, 1 << 19)]
    key, value = some((heads, 4, dim), torch.float16), some((heads, 4, dim), torch.float16)
    slots = torch.tensor([3, 99, 0, 7])
    kernels.kv_store.triton.store(key, value, *caches, slots)
    for cache, expected in zip(caches, (key, value), strict=True):
        assert torch.equal(cache[:, slots], expected)
