"""The fused operations in C against their definitions, and the fallback where they are not available."""

import pytest
import torch
from torch import Tensor

from kernels import native
from kernels.rms_norm import native as rms_norm
from kernels.rms_norm import reference as rms_norm_reference
from kernels.rope_store import native as rope_store
from kernels.rope_store import reference as rope_store_reference
from kernels.silu_mul import native as silu_mul
from kernels.silu_mul import reference as silu_mul_reference
from tests.kernels.poison import poisoned

pytestmark = pytest.mark.skipif(native.library() is None, reason="this processor lacks AVX-512 BF16, or no compiler")
CLOSE = {"rtol": 2**-7, "atol": 1e-6}  # one unit in the last place: sums are taken in another order


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


@pytest.mark.parametrize("shape", [(1, 1536), (5, 24), (2, 3, 7), (300, 130), (1, 1)], ids=str)
def test_norms(shape: tuple[int, ...]):
    x, residual, weight = some(*shape), some(*shape, seed=1), some(shape[-1], seed=2)
    before = x.clone()
    with poisoned():
        found = rms_norm.rms_norm(x, weight, 1e-5)
        both = rms_norm.add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(found, rms_norm_reference.rms_norm(x, weight, 1e-5), **CLOSE)
    expected = rms_norm_reference.add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(both[1], expected[1])
    torch.testing.assert_close(both[0], expected[0], **CLOSE)
    assert torch.equal(x, before)


def test_a_norm_of_heads_that_are_cut_out_of_a_wider_product():
    heads = some(9, 6 * 32)[:, 32:96].view(9, 2, 32)
    weight = some(32, seed=1)
    found, expected = rms_norm.rms_norm(heads, weight, 1e-6), rms_norm_reference.rms_norm(heads, weight, 1e-6)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("shape", [(1, 48), (3, 2), (5, 194), (1, 9, 2048), (40, 2200), (0, 64)], ids=str)
def test_gates(shape: tuple[int, ...]):
    gate_up = some(*shape) * 8
    with poisoned():
        found = silu_mul.silu_mul(gate_up)
    torch.testing.assert_close(found, silu_mul_reference.silu_mul(gate_up), **CLOSE)
    extreme = torch.tensor([[-200.0, 200.0, -0.0, 1.0, 1.0, 1.0]]).to(torch.bfloat16)
    torch.testing.assert_close(silu_mul.silu_mul(extreme), silu_mul_reference.silu_mul(extreme), **CLOSE)


@pytest.mark.parametrize("tokens", [1, 3, 70])
@pytest.mark.parametrize(("dim", "rotary"), [(128, 128), (64, 32), (40, 40), (6, 2)])
def test_rotation_and_store(tokens: int, dim: int, rotary: int):
    product = some(tokens, 10, dim)  # queries, keys and values side by side
    query, key, value = (part.transpose(0, 1) for part in product.split([6, 2, 2], dim=1))
    cos, sin = some(tokens, rotary, seed=1), some(tokens, rotary, seed=2)
    slots = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:tokens]
    caches = [torch.zeros(2, 100, dim, dtype=torch.bfloat16) for _ in range(4)]
    found = rope_store.rope_store(query, key, value, (cos, sin), *caches[:2], slots)
    expected = rope_store_reference.rope_store(query, key, value, (cos, sin), *caches[2:], slots)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-8)
    torch.testing.assert_close(caches[0], caches[2], rtol=2**-7, atol=2**-8)
    assert torch.equal(caches[1], caches[3])


def test_other_dtypes_are_left_to_torch():
    x, weight = torch.randn(3, 8), torch.randn(8)
    assert torch.equal(rms_norm.rms_norm(x, weight, 1e-5), rms_norm_reference.rms_norm(x, weight, 1e-5))
    assert torch.equal(silu_mul.silu_mul(x), silu_mul_reference.silu_mul(x))


def test_rows_do_not_depend_on_how_many_there_are():
    x, weight = some(200, 1536), some(1536, seed=1)
    assert torch.equal(rms_norm.rms_norm(x, weight, 1e-6)[:3], rms_norm.rms_norm(x[:3], weight, 1e-6))
    assert torch.equal(silu_mul.silu_mul(x)[:3], silu_mul.silu_mul(x[:3]))


def test_without_a_compiler_torch_computes(monkeypatch: pytest.MonkeyPatch):
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compiler", lambda: None)
    try:
        assert native.library() is None
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
        assert native.library() is not None
