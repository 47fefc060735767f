"""SiLU-mul: the kernel against the definition, the definition against the formula."""

import numpy as np
import pytest
import torch

from kernels.silu_mul import reference
from kernels.silu_mul import triton as kernel
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.poison import poisoned
from tests.kernels.test_rms_norm import TOLERANCE, TYPES, some

pytestmark = pytest.mark.gpu

SHAPES = {
    "one-row": (1, 128),
    "one-number": (3, 2),
    "odd-size": (5, 194),
    "packed": (1, 9, 192),
    "capuchin": (4, 1408),
    "several-blocks": (2, 2 * 2500),
    "no-rows": (0, 64),
}


def test_the_reference_is_the_formula():
    gate_up = torch.randn(4, 24, dtype=torch.float64)
    gate, up = gate_up[:, :12], gate_up[:, 12:]
    torch.testing.assert_close(reference.silu_mul(gate_up.float()), (gate / (1 + (-gate).exp()) * up).float())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@TYPES
def test_gate(shape: tuple[int, ...], dtype: torch.dtype):
    gate_up = some(shape, dtype) * 3
    before = gate_up.clone()
    with poisoned():
        found = kernel.silu_mul(gate_up)
    torch.testing.assert_close(found, reference.silu_mul(gate_up), **TOLERANCE[dtype])
    assert torch.equal(gate_up, before)
    assert found.is_contiguous()


@pytest.mark.parametrize("name", ["cut-out", "every-second-row", "transposed", "three-levels"])
def test_strided_inputs(name: str):
    gate_up = {
        "cut-out": some((6, 200), torch.float32)[:, 40:136],
        "every-second-row": some((9, 48), torch.float32)[::2],
        "transposed": some((34, 6), torch.float32).T,
        "three-levels": some((4, 5, 6, 8), torch.float32)[:3, :4, :5],
    }[name]
    torch.testing.assert_close(kernel.silu_mul(gate_up), reference.silu_mul(gate_up))


@TYPES
def test_extremes_stay_finite(dtype: torch.dtype):
    gate_up = torch.tensor([[-60000.0, -100.0, 0.0, 60000.0, 1.0, 1.0, 1.0, 1.0]], device=DEVICE).to(dtype)
    with np.errstate(over="ignore"):  # the interpreter is numpy; a GPU's exponential becomes infinite without a word
        found = kernel.silu_mul(gate_up)
    torch.testing.assert_close(found, reference.silu_mul(gate_up), **TOLERANCE[dtype])
    assert found.isfinite().all()


def test_an_odd_row_is_refused():
    with pytest.raises(ValueError, match="a row of 7 numbers"):
        kernel.silu_mul(torch.zeros(2, 7))


@COMPILED_HERE
@pytest.mark.parametrize("size", [704, 4864, 8960, 18944])
def test_compiled(size: int):
    check(
        kernel._silu_mul,
        {"gate_up": "*bf16:16", "out": "*bf16:16", "outer_stride": "i32:16"},
        {"inner": 1, "inner_stride": 0, "SIZE": size, "BLOCK": 1024},
        registers=40,
        shared=0,
        label=f"silu_mul {size}",
    )
