"""RMS norm: the kernel against the definition, the definition against the formula."""

import pytest
import torch
from torch import Tensor

from kernels.rms_norm import reference
from kernels.rms_norm import triton as kernel
from kernels.rows import rows_of
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE, DTYPES
from tests.kernels.poison import poisoned

pytestmark = pytest.mark.gpu

TOLERANCE = {
    torch.float32: {"atol": 1e-5, "rtol": 1e-5},
    torch.float16: {"atol": 1e-3, "rtol": 2e-3},
    torch.bfloat16: {"atol": 1e-2, "rtol": 1.6e-2},
}
SHAPES = {
    "one-row": (1, 64),
    "one-number": (3, 1),
    "odd-size": (5, 97),
    "qwen-1.5b": (2, 1536),
    "not-a-power-of-two": (7, 896),
    "packed": (1, 9, 256),
    "heads": (1, 4, 3, 16),
    "many-short-rows": (130, 8),
    "no-rows": (0, 64),
}
TYPES = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def some(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype)


def test_the_reference_is_the_formula():
    x, weight = torch.randn(5, 12, dtype=torch.float64), torch.randn(12)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 0.25).sqrt() * weight
    torch.testing.assert_close(reference.rms_norm(x.float(), weight, 0.25), expected.float())
    norm, total = reference.add_rms_norm(x.float(), x.float(), weight, 0.25)
    torch.testing.assert_close(total, 2 * x.float())
    torch.testing.assert_close(norm, reference.rms_norm(2 * x.float(), weight, 0.25))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@TYPES
def test_norm(shape: tuple[int, ...], dtype: torch.dtype):
    x, weight = some(shape, dtype), some(shape[-1:], dtype)
    with poisoned():
        found = kernel.rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(found, reference.rms_norm(x, weight, 1e-6), **TOLERANCE[dtype])
    assert found.is_contiguous()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@TYPES
def test_norm_after_addition(shape: tuple[int, ...], dtype: torch.dtype):
    x, residual, weight = some(shape, dtype), some(shape, dtype), some(shape[-1:], dtype)
    with poisoned():
        norm, total = kernel.add_rms_norm(x, residual, weight, 1e-5)
    expected_norm, expected_total = reference.add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(total, expected_total)
    torch.testing.assert_close(norm, expected_norm, **TOLERANCE[dtype])


STRIDED = {
    "heads-of-a-wider-product": lambda: some((6, 200), torch.float32)[:, 40:136].view(1, 6, 6, 16),
    "every-second-row": lambda: some((9, 48), torch.float32)[::2],
    "transposed": lambda: some((33, 6), torch.float32).T,
    "three-levels": lambda: some((4, 5, 6, 7), torch.float32)[:3, :4, :5],
    "broadcast": lambda: some((1, 20), torch.float32).expand(5, 20),
}


@pytest.mark.parametrize("name", STRIDED)
def test_strided_inputs(name: str):
    x = STRIDED[name]()
    weight = some(x.shape[-1:], torch.float32)
    torch.testing.assert_close(kernel.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
    for residual in (some(x.shape, torch.float32), x):
        found = kernel.add_rms_norm(x, residual, weight, 1e-6)
        torch.testing.assert_close(found, reference.add_rms_norm(x, residual, weight, 1e-6))


def test_heads_of_a_wider_product_are_not_copied():
    x = torch.zeros(6, 200)[:, 40:136].view(1, 6, 6, 16)
    rows = rows_of(x)
    assert rows.data.data_ptr() == x.data_ptr()
    assert (rows.count, rows.inner, rows.outer_stride, rows.inner_stride) == (36, 6, 200, 16)


@TYPES
def test_sums_do_not_overflow(dtype: torch.dtype):
    x = torch.full((2, 512), 300.0, dtype=dtype, device=DEVICE)  # its square is more than float16 holds
    weight = torch.ones(512, dtype=dtype, device=DEVICE)
    torch.testing.assert_close(kernel.rms_norm(x, weight, 1e-6), torch.ones_like(x), **TOLERANCE[dtype])


def test_weights_of_another_type():
    x, weight = some((3, 40), torch.float16), some((40,), torch.float32)
    found = kernel.rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(found, reference.rms_norm(x, weight, 1e-6), **TOLERANCE[torch.float16])


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [((2, 8), (9,), "must end alike"), ((2, 8), (2, 8), "must end alike"), ((1, 40000), (40000,), "use the reference")],
)
def test_refusals(x: tuple[int, ...], weight: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        kernel.rms_norm(torch.zeros(x), torch.zeros(weight), 1e-6)
    with pytest.raises(ValueError, match="differ"):
        kernel.add_rms_norm(torch.zeros(2, 8), torch.zeros(2, 8).half(), torch.zeros(8), 1e-6)


BOUNDS = {64: 56, 128: 56, 896: 48, 1536: 48, 3584: 48, 8192: 56, 32768: 168}  # registers by row length


@COMPILED_HERE
@pytest.mark.parametrize("size", BOUNDS)
@pytest.mark.parametrize("add", [False, True], ids=["norm", "add-norm"])
def test_compiled(size: int, add: bool):
    block, rows, warps = kernel.tiling(size)
    strides = ["outer_stride", "inner_stride", "residual_outer_stride", "residual_inner_stride"]
    check(
        kernel._rms_norm,
        dict.fromkeys(["x", "residual", "weight", "out", "total"], "*bf16:16")
        | dict.fromkeys(strides, "i32:16")
        | {"rows": "i32", "inner": "i32", "eps": "fp32"},
        {"SIZE": size, "BLOCK": block, "ROWS": rows, "ADD": add},
        registers=BOUNDS[size],
        shared=1024,
        warps=warps,
        label=f"rms_norm {size}{' add' if add else ''}",
    )
