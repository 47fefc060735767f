"""Few-bit linears: what counts as one, and the compiled kernels against the definition."""

import pytest
import torch
from torch import Tensor

import kernels.native as build
from kernels.few_bit_linear import native, reference

needs_kernels = pytest.mark.skipif(build.library() is None, reason="this processor lacks AVX-512 BF16, or no compiler")


def four(n: int, k: int, seed: int = 0) -> Tensor:
    """As a dequantised Q4_K or Q4_1 block."""
    torch.manual_seed(seed)
    numbers = torch.randint(0, 16, (n, k // 32, 32))
    scale, low = torch.rand(n, k // 32, 1) * 0.01 + 0.001, -torch.rand(n, k // 32, 1) * 0.08
    return (low + scale * numbers).view(n, k).to(torch.bfloat16)


def six(n: int, k: int, seed: int = 0) -> Tensor:
    """As a dequantised Q6_K block."""
    torch.manual_seed(seed)
    numbers = torch.randint(0, 64, (n, k // 16, 16)) - 32
    scale = torch.rand(n, k // 16, 1) * 0.003 + 0.0002
    return (scale * numbers).view(n, k).to(torch.bfloat16)


WEIGHTS = {
    "four": four(64, 96),
    "six": six(64, 96),
    "both": torch.cat([four(32, 64), six(48, 64)]),
    "odd-outputs": four(27, 64),
    "one-output": six(1, 32),
    "zeros": torch.zeros(16, 64, dtype=torch.bfloat16),
    "wide": six(16, 2048),
}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_a_dequantised_weight_is_found_and_stays_the_same(weight: Tensor):
    found = reference.find(weight)
    assert found is not None
    error = (reference.values(found) - weight.float()).abs()
    assert error.max() <= 2**-8 * weight.float().abs().max()


def never_quantised() -> list[Tensor]:
    torch.manual_seed(1)
    random = torch.randn(64, 96).mul(0.02).to(torch.bfloat16)
    spoiled = four(64, 96)
    spoiled[5, 40:50] = torch.randn(10).mul(0.02).to(torch.bfloat16)

    broken = four(64, 96)
    broken[3, 3] = float("nan")
    return [random, spoiled, broken]


@pytest.mark.parametrize("weight", never_quantised(), ids=["random", "one-group-is-not", "not-a-number"])
def test_other_weights_are_refused(weight: Tensor):
    assert reference.find(weight) is None
    assert native.pack(weight) is None


@needs_kernels
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 17, 64, 130])
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("biased", [False, True])
def test_the_kernels_compute_the_definition(weight: Tensor, rows: int, biased: bool):
    n, k = weight.shape
    torch.manual_seed(rows)
    x = torch.randn(1, rows, k).to(torch.bfloat16)
    bias = torch.randn(n).to(torch.bfloat16) if biased else None
    packed = native.pack(weight, bias)
    assert packed is not None
    expected = torch.nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
    scale = max(1e-3, x.float().norm(dim=-1).max().item() * weight.float().norm(dim=-1).max().item())
    for way in packed.ways:
        found = packed.linear(x, way)
        assert found.shape == (1, rows, n)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=2**-8 * scale)


@needs_kernels
def test_rows_do_not_depend_on_each_other():
    packed = native.pack(WEIGHTS["both"])
    assert packed is not None
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for way in packed.ways:
        assert torch.equal(packed.linear(x, way)[:3], packed.linear(x.clone(), way)[:3])


def test_without_a_compiler_nothing_is_packed(monkeypatch: pytest.MonkeyPatch):
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compiler", lambda: None)
    try:
        assert native.pack(four(64, 96)) is None
    finally:
        build.library.cache_clear()


def test_a_compiler_that_fails_is_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: object):
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compiler", lambda: ["false"])
    try:
        assert native.pack(four(64, 96)) is None
    finally:
        build.library.cache_clear()
