"""The gated delta rule in the pool of states: each kernel against the definition, the definition against
`transformers`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from transformers.models.kimi_linear import modeling_kimi_linear
from transformers.models.qwen3_next import modeling_qwen3_next

from kernels.delta_rule import native as in_c
from kernels.delta_rule import reference
from kernels.delta_rule import triton as kernel
from kernels.delta_rule.reference import Token
from kernels.places import Places
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.pooled import IN_C, Advance, PoolCase, in_torch
from tests.kernels.test_rms_norm import TYPES

pytestmark = pytest.mark.gpu


class Shape(NamedTuple):
    """Of a step of a layer."""

    texts: int
    key_heads: int
    heads: int
    width: int
    values: int
    each: bool = False  # features of a key decay on their own


SHAPES = {
    "one-text": Shape(1, 2, 2, 16, 16),
    "keys-that-serve-two-heads": Shape(3, 2, 4, 32, 32),
    "three-heads": Shape(2, 1, 3, 16, 64),
    "features-decay": Shape(3, 2, 2, 16, 16, True),
    "features-decay-in-odd-keys": Shape(2, 2, 2, 24, 40, True),
    "odd-sizes": Shape(5, 3, 3, 20, 33),
    "more-values-than-a-part": Shape(2, 1, 1, 8, 300),
    "qwen3-next": Shape(2, 1, 2, 128, 128),
    "kimi-linear": Shape(1, 2, 2, 128, 128, True),
    "olmo-hybrid": Shape(1, 1, 1, 96, 192),
}
EACH = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Case(PoolCase):
    """Random inputs as a layer gives them: cut out of one product, of which the texts' states are some of a pool that
    is full of NaN otherwise.
    """

    reference = reference

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> None:
        texts, key_heads, heads, width, values, each = shape
        super().__init__(texts, (heads, width, values), device)
        sizes = [key_heads * width, key_heads * width, heads * values]
        product = torch.randn(texts, 1, sum(sizes), device=device).to(dtype)
        query, key, value = product.split(sizes, dim=-1)
        decay = -torch.rand((texts, heads, width) if each else (texts, heads), device=device) * 3
        beta = torch.rand(texts, 2 * heads, device=device).to(dtype)[:, heads:]
        key, query = key.view(texts, key_heads, width), query.view(texts, key_heads, width)
        self.token = Token(query, key, value.view(texts, heads, values), decay, beta, True)


def of_transformers(shape: Shape) -> Callable[..., Any]:
    if shape.each:
        return in_torch(modeling_kimi_linear.recurrent_kimi_delta_attention)
    return in_torch(modeling_qwen3_next.torch_recurrent_gated_delta_rule)


@EACH
@pytest.mark.parametrize("normed", [True, False])
def test_the_reference_is_transformers(shape: Shape, normed: bool):
    case = Case(shape)
    case.token = case.token._replace(normed=normed)
    query, key, value, decay, beta = (x[:, None] for x in case.token[:5])
    state = case.pool[case.slots]
    expected, last = of_transformers(shape)(
        query, key, value, g=decay, beta=beta, initial_state=state, output_final_state=True,
        use_qk_l2norm_in_kernel=normed,
    )  # fmt: skip
    found, pool = case.run(reference.advance)
    torch.testing.assert_close(found, expected[:, 0])
    torch.testing.assert_close(pool[case.slots], last)
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
    ("advance", "device"),
    [
        pytest.param(reference.advance, "cpu", id="torch"),
        pytest.param(kernel.advance, DEVICE, id="triton"),
        pytest.param(in_c.advance, "cpu", id="C", marks=IN_C),
    ],
)


@KERNELS
def test_guesses_leave_the_states_as_they_are(advance: Advance, device: str):
    case = Case(SHAPES["keys-that-serve-two-heads"], device=device)
    case.guesses_leave_the_states_as_they_are(advance)


@KERNELS
def test_nobodys_rows_begin_with_zeros_and_write_nothing(advance: Advance, device: str):
    case = Case(SHAPES["features-decay-in-odd-keys"], device=device)
    case.nobodys_rows_begin_with_zeros_and_write_nothing(advance)


@KERNELS
def test_a_texts_bits_do_not_depend_on_the_others(advance: Advance, device: str):
    """Nor on rows that share a slot, whose state is anything then."""
    case = Case(Shape(6, 2, 4, 32, 48), device=device)
    found, pool = case.run(advance)
    case.slots[2:] = case.slots[2].item()
    case.pool[case.slots[2]] = torch.nan
    among, beside = case.run(advance)
    assert torch.equal(among[:2], found[:2])
    assert torch.equal(beside[case.slots[:2]], pool[case.slots[:2]])
    case.token = Token(*(x[:2] for x in case.token[:5]), True)
    case.slots = case.slots[:2]
    alone, beside = case.run(advance)
    assert torch.equal(alone, found[:2])
    assert torch.equal(beside[case.slots], pool[case.slots])


@KERNELS
def test_many_tokens_one_after_the_other(advance: Advance, device: str):
    """As the whole text by `transformers`, whose loop goes over tokens."""
    shape = Shape(2, 2, 4, 16, 24)
    cases = [Case(shape, device=device) for _ in range(9)]
    pool, slots = torch.zeros_like(cases[0].pool), cases[0].slots
    found = [advance(case.token, Places(pool, slots, True)) for case in cases]
    query, key, value, decay, beta = (
        torch.stack(each, dim=1) for each in zip(*(c.token[:5] for c in cases), strict=True)
    )
    expected, last = of_transformers(shape)(
        query, key, value, g=decay, beta=beta, initial_state=None, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    torch.testing.assert_close(torch.stack(found, dim=1), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pool[slots], last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("advance", [kernel.advance, pytest.param(in_c.advance, marks=IN_C)], ids=["triton", "C"])
@pytest.mark.parametrize("name", ["query", "key", "value", "decay", "beta"])
def test_what_does_not_fit_is_refused(advance: Advance, name: str):
    case = Case(SHAPES["keys-that-serve-two-heads"], device="cpu")
    case.token = case.token._replace(**{name: getattr(case.token, name)[:, :1]})
    with pytest.raises(ValueError, match="do not fit"):
        case.run(advance)
    case = Case(SHAPES["keys-that-serve-two-heads"], device="cpu")
    case.pool = case.pool.double()
    with pytest.raises(ValueError, match="must be float32"):
        case.run(advance)


def test_without_texts_nothing_is_launched():
    case = Case(Shape(0, 2, 4, 16, 16))
    assert case.run(kernel.advance)[0].shape == (0, 4, 16)


COMPILED = {
    "qwen3-next": Shape(1, 16, 32, 128, 128),
    "kimi-linear": Shape(1, 32, 32, 128, 128, True),
    "olmo-hybrid": Shape(1, 30, 30, 96, 192),
    "keys-of-256": Shape(1, 4, 8, 256, 256),
}


@COMPILED_HERE
@pytest.mark.parametrize("shape", COMPILED.values(), ids=COMPILED)
def test_compiled(shape: Shape):
    inputs = ["query", "key", "value", "decay", "beta"]
    check(
        kernel._delta_rule,
        dict.fromkeys([*inputs, "out"], "*bf16:16")
        | {"decay": "*fp32:16", "states": "*fp32:16", "slots": "*i64:16", "scale": "fp32", "eps": "fp32"}
        | dict.fromkeys([f"{each}_text_stride" for each in inputs], "i32:16")
        | dict.fromkeys([f"{each}_head_stride" for each in inputs[:4]], "i32:16" if shape.each else "i32"),
        {"HEADS": shape.heads, "SHARE": shape.heads // shape.key_heads, "WIDTH": shape.width, "VALUES": shape.values}
        | kernel.blocks(shape.width, shape.values)
        | {"EACH": shape.each, "NORMED": True, "KEPT": True, "beta_head_stride": 1},
        registers=96,
        shared=8192,
        label=f"delta_rule {shape.heads}x{shape.width}x{shape.values}{' each' if shape.each else ''}",
    )
