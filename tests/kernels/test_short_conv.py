"""A short convolution in the pool of last inputs: each kernel against the definition, the definition against
`transformers`.
"""

from typing import NamedTuple

import pytest
import torch
from transformers.models.qwen3_next import modeling_qwen3_next

from kernels.short_conv import native as in_c
from kernels.short_conv import reference
from kernels.short_conv import triton as kernel
from kernels.short_conv.reference import Input
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.pooled import IN_C, Advance, PoolCase, in_torch
from tests.kernels.test_rms_norm import TYPES

pytestmark = pytest.mark.gpu


class Shape(NamedTuple):
    """Of a step of a layer."""

    texts: int
    features: int
    width: int = 4
    taps: int = 4
    bias: bool = False
    silu: bool = True


SHAPES = {
    "one-text": Shape(1, 32),
    "qwen3-next": Shape(2, 8192),
    "mamba": Shape(3, 48, bias=True),
    "lfm2": Shape(3, 64, 3, 3, silu=False),
    "odd-features": Shape(4, 77, bias=True),
    "no-more-inputs-than-are-needed": Shape(2, 32, 3, 4),
    "more-inputs-than-are-needed": Shape(2, 32, 6, 4),
    "many-texts": Shape(70, 1040),
}
EACH = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Case(PoolCase):
    """Random inputs, and a pool that is full of NaN where no text's inputs are."""

    reference = reference
    exact = True

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> None:
        texts, features, width, taps, bias, silu = shape
        super().__init__(texts, (features, width), device, dtype)
        made = [torch.randn(size, device=device) for size in ((features, texts), (features, taps), (features,))]
        x, weight, offset = (each.to(dtype) for each in made)
        self.token = Input(x.T, weight, offset if bias else None, silu)


@EACH
def test_the_reference_is_transformers(shape: Shape):
    case = Case(shape)
    own = in_torch(modeling_qwen3_next.causal_conv1d_update)
    state = case.pool[case.slots]
    x, weight, bias, silu = case.token
    expected = own(x[..., None], state, weight, bias, "silu" if silu else None)
    found, pool = case.run(reference.advance)
    torch.testing.assert_close(found, expected[..., 0])
    assert torch.equal(pool[case.slots], state)
    assert pool.isnan().sum() == 3 * pool[0].numel()


@EACH
@TYPES
def test_kernel(shape: Shape, dtype: torch.dtype):
    Case(shape, dtype).agree(kernel.advance)


@IN_C
@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_in_c(shape: Shape, dtype: torch.dtype):
    Case(shape, dtype, "cpu").agree(in_c.advance)


KERNELS = pytest.mark.parametrize(
    ("advance", "device", "dtype"),
    [
        pytest.param(reference.advance, "cpu", torch.bfloat16, id="torch"),
        pytest.param(kernel.advance, DEVICE, torch.float16, id="triton"),
        pytest.param(in_c.advance, "cpu", torch.bfloat16, id="C", marks=IN_C),
    ],
)


@KERNELS
def test_guesses_leave_the_inputs_as_they_are(advance: Advance, device: str, dtype: torch.dtype):
    case = Case(SHAPES["mamba"], dtype, device)
    case.guesses_leave_the_states_as_they_are(advance)


@KERNELS
def test_nobodys_rows_begin_with_zeros_and_write_nothing(advance: Advance, device: str, dtype: torch.dtype):
    case = Case(SHAPES["mamba"], dtype, device)
    case.nobodys_rows_begin_with_zeros_and_write_nothing(advance)


@KERNELS
def test_a_texts_bits_do_not_depend_on_the_others(advance: Advance, device: str, dtype: torch.dtype):
    case = Case(SHAPES["many-texts"], dtype, device)
    found, pool = case.run(advance)
    case.token = case.token._replace(x=case.token.x[:2])
    case.slots = case.slots[:2]
    alone, beside = case.run(advance)
    assert torch.equal(alone, found[:2])
    assert torch.equal(beside[case.slots], pool[case.slots])


@pytest.mark.parametrize("advance", [kernel.advance, pytest.param(in_c.advance, marks=IN_C)], ids=["triton", "C"])
@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_what_does_not_fit_is_refused(advance: Advance, name: str):
    case = Case(SHAPES["mamba"], torch.bfloat16, device="cpu")
    cut = getattr(case.token, name)[:2]
    case.token = case.token._replace(**{name: cut})
    with pytest.raises(ValueError, match="do not fit"):
        case.run(advance)
    case = Case(SHAPES["mamba"], torch.bfloat16, device="cpu")
    case.slots = case.slots.int()
    with pytest.raises(ValueError, match="slots int64"):
        case.run(advance)


@COMPILED_HERE
@pytest.mark.parametrize("shape", [SHAPES["qwen3-next"], SHAPES["mamba"], SHAPES["lfm2"]], ids=str)
def test_compiled(shape: Shape):
    check(
        kernel._short_conv,
        dict.fromkeys(["x", "weight", "bias", "states", "out"], "*bf16:16")
        | {"slots": "*i64:16", "text_stride": "i32:16"},
        {"FEATURES": shape.features, "WIDTH": shape.width, "TAPS": shape.taps, "BIAS": shape.bias, "SILU": shape.silu}
        | {"KEPT": True, "BLOCK": kernel.BLOCK, "feature_stride": 1},
        registers=48,
        shared=2048,
        label=f"short_conv {shape.features}x{shape.taps}",
    )
