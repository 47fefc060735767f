"""A state space in the pool of states: each kernel against the definition, the definition against `transformers`."""

from typing import NamedTuple

import pytest
import torch
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2

from kernels.places import Places
from kernels.state_space import native as in_c
from kernels.state_space import reference
from kernels.state_space import triton as kernel
from kernels.state_space.reference import Token
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.pooled import IN_C, Advance, PoolCase, in_torch
from tests.kernels.test_rms_norm import TYPES

pytestmark = pytest.mark.gpu


class Shape(NamedTuple):
    """Of a step of a layer."""

    texts: int
    groups: int
    heads: int
    values: int
    width: int
    alike: bool = True  # all of a head's values decay alike, as in Mamba 2
    gate: bool = False


SHAPES = {
    "one-text": Shape(1, 2, 2, 16, 16),
    "keys-that-serve-two-heads": Shape(3, 2, 4, 32, 32),
    "three-heads-and-a-gate": Shape(2, 1, 3, 16, 64, gate=True),
    "values-decay": Shape(3, 1, 1, 48, 16, False, True),
    "values-decay-in-heads": Shape(2, 2, 2, 24, 40, False),
    "odd-sizes": Shape(5, 3, 3, 33, 20),
    "odd-values-that-decay": Shape(2, 1, 1, 203, 9, False, True),
    "wide-keys": Shape(1, 1, 2, 128, 256),
    "nemotron-h": Shape(2, 1, 2, 64, 128),
    "mamba": Shape(1, 1, 1, 512, 16, False, True),
}
EACH = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Case(PoolCase):
    """Random inputs as a layer gives them: cut out of one product, of which the texts' states are some of a pool that
    is full of NaN otherwise.
    """

    reference = reference

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> None:
        texts, groups, heads, values, width, alike, gate = shape
        super().__init__(texts, (heads, values, width), device)
        own = 1 if alike else values
        sizes = [heads * values, groups * width, groups * width, heads * own, heads * values]
        product = torch.randn(texts, sum(sizes), device=device).to(dtype)
        value, key, query, time, z = product.split(sizes, dim=-1)
        rate = -torch.rand(heads, own, 1 if alike else width, device=device) * 8
        skip = torch.randn(heads, 1, device=device).to(dtype).expand(-1, values)
        self.token = Token(
            value.view(texts, heads, values), time.view(texts, heads, own) * 4, rate,
            key.view(texts, groups, width), query.view(texts, groups, width), skip,
            torch.randn(heads, own, device=device).to(dtype) - 2, z.view(texts, heads, values) if gate else None, True,
        )  # fmt: skip


@EACH
def test_the_reference_is_transformers(shape: Shape):
    case = Case(shape)
    value, time, rate, key, query, skip, bias, gate, _ = case.token
    assert skip is not None
    assert bias is not None
    state = case.pool[case.slots]
    if not shape.alike:
        if shape.heads > 1:
            pytest.skip("Mamba has no heads")
        own = in_torch(modeling_mamba.mamba_selective_state_update)
        assert gate is not None
        expected = own(
            state[:, 0], value[:, 0], time[:, 0], rate[0], key[:, 0], query[:, 0], skip[0],
            z=gate[:, 0], dt_bias=bias[0], dt_softplus=True,
        )[:, None]  # fmt: skip
    else:
        expected = in_torch(modeling_mamba2.mamba2_selective_state_update)(
            state, value, time.expand(value.shape), rate.expand(state.shape[1:]), key, query, skip,
            z=gate, dt_bias=bias.expand(value.shape[1:]), dt_softplus=True,
        )  # fmt: skip
    found, pool = case.run(reference.advance)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pool[case.slots], state)
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
@pytest.mark.parametrize("left_out", [("skip",), ("bias",), ("gate",), ("skip", "bias", "gate"), ("softplus",)])
@pytest.mark.parametrize("name", ["three-heads-and-a-gate", "values-decay"])
def test_parts_that_a_layer_does_without(advance: Advance, device: str, name: str, left_out: tuple[str, ...]):
    case = Case(SHAPES[name], device=device)
    whole, _ = case.run(reference.advance)
    case.token = case.token._replace(time=case.token.time.abs() + 3, **dict.fromkeys(left_out))
    case.agree(advance)
    assert not torch.equal(case.run(advance)[0], whole)


@KERNELS
@pytest.mark.parametrize("time", [-30.0, -17.0, -9.0, -1.0, 0.0, 5.0, 19.0, 21.0, 90.0])
def test_times_of_any_size_are_exact(advance: Advance, device: str, time: float):
    """What passes is `log(1 + e^time)`: where that is small it still moves a state that has forgotten nothing."""
    case = Case(SHAPES["one-text"], device=device)
    case.token = case.token._replace(time=torch.full_like(case.token.time, time), bias=None)
    case.pool[case.slots] = 0
    _, pool = case.run(advance)
    passed = torch.tensor(time).double().exp().log1p().float().to(device)
    expected = passed * case.token.value[..., None] * case.token.key[:, :, None]
    torch.testing.assert_close(pool[case.slots], expected, rtol=1e-5, atol=0)


@KERNELS
def test_guesses_leave_the_states_as_they_are(advance: Advance, device: str):
    for name in ("keys-that-serve-two-heads", "values-decay"):
        case = Case(SHAPES[name], device=device)
        case.guesses_leave_the_states_as_they_are(advance)


@KERNELS
@pytest.mark.parametrize("name", ["three-heads-and-a-gate", "values-decay-in-heads"])
def test_nobodys_rows_begin_with_zeros_and_write_nothing(advance: Advance, device: str, name: str):
    case = Case(SHAPES[name], device=device)
    case.nobodys_rows_begin_with_zeros_and_write_nothing(advance)


@KERNELS
def test_a_texts_bits_do_not_depend_on_the_others(advance: Advance, device: str):
    """Nor on rows that share a slot, whose state is anything then."""
    case = Case(Shape(6, 2, 4, 48, 32), device=device)
    found, pool = case.run(advance)
    case.slots[2:] = case.slots[2].item()
    case.pool[case.slots[2]] = torch.nan
    among, beside = case.run(advance)
    assert torch.equal(among[:2], found[:2])
    assert torch.equal(beside[case.slots[:2]], pool[case.slots[:2]])
    value, time, _, key, query = (x[:2] for x in case.token[:5])
    case.token = case.token._replace(value=value, time=time, key=key, query=query)
    case.slots = case.slots[:2]
    alone, beside = case.run(advance)
    assert torch.equal(alone, found[:2])
    assert torch.equal(beside[case.slots], pool[case.slots])


@KERNELS
def test_many_tokens_one_after_the_other(advance: Advance, device: str):
    """As the whole text by `transformers`, which computes chunks."""
    shape = Shape(2, 2, 4, 16, 24)
    cases = [Case(shape, device=device) for _ in range(9)]
    first = cases[0].token
    for case in cases:
        case.token = case.token._replace(rate=first.rate, skip=first.skip, bias=first.bias)
    pool, slots = torch.zeros_like(cases[0].pool), cases[0].slots
    found = [advance(case.token, Places(pool, slots, True)) for case in cases]
    value, time, key, query = (
        torch.stack([getattr(case.token, name) for case in cases], dim=1) for name in ("value", "time", "key", "query")
    )
    assert first.skip is not None
    assert first.bias is not None
    expected, last = in_torch(modeling_mamba2.mamba2_chunk_scan)(
        value, time[..., 0], first.rate[:, 0, 0], key, query, 4, D=first.skip[:, 0], dt_bias=first.bias[:, 0],
        dt_softplus=True, return_final_states=True,
    )  # fmt: skip
    torch.testing.assert_close(torch.stack(found, dim=1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pool[slots], last, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("advance", [kernel.advance, pytest.param(in_c.advance, marks=IN_C)], ids=["triton", "C"])
@pytest.mark.parametrize("name", ["value", "time", "rate", "key", "query", "skip", "bias", "gate"])
def test_what_does_not_fit_is_refused(advance: Advance, name: str):
    case = Case(SHAPES["three-heads-and-a-gate"], device="cpu")
    case.token = case.token._replace(**{name: getattr(case.token, name)[:1]})
    if name in ("rate", "skip", "bias"):
        case.token = case.token._replace(**{name: getattr(case.token, name)[:0]})
    with pytest.raises(ValueError, match="do not fit"):
        case.run(advance)
    case = Case(SHAPES["three-heads-and-a-gate"], device="cpu")
    case.pool = case.pool.double()
    with pytest.raises(ValueError, match="must be float32"):
        case.run(advance)


def test_without_texts_nothing_is_launched():
    case = Case(Shape(0, 2, 4, 16, 16))
    assert case.run(kernel.advance)[0].shape == (0, 4, 16)


COMPILED = {
    "nemotron-h": Shape(1, 8, 64, 64, 128),
    "falcon-h1": Shape(1, 2, 32, 128, 256, True, True),
    "zamba2": Shape(1, 2, 112, 64, 64),
    "mamba": Shape(1, 1, 1, 8192, 16, False, True),
}


@COMPILED_HERE
@pytest.mark.parametrize("shape", COMPILED.values(), ids=COMPILED)
def test_compiled(shape: Shape):
    inputs = ["value", "time", "key", "query", "gate"]
    strides = [f"{name}_{at}_stride" for name in inputs for at in ("text", "head")]
    strides += [f"{name}_{at}_stride" for name in ("rate", "skip") for at in ("head", "value")] + ["bias_head_stride"]
    one = [f"{name}_head_stride" for name in ("rate", "time", "bias", "skip")] if shape.alike else ["skip_value_stride"]
    check(
        kernel._state_space,
        dict.fromkeys([*inputs, "skip", "bias", "out"], "*bf16:16")
        | dict.fromkeys(["rate", "states"], "*fp32:16")
        | {"slots": "*i64:16"}
        | dict.fromkeys([each for each in strides if each not in one], "i32:16"),
        {"HEADS": shape.heads, "SHARE": shape.heads // shape.groups, "VALUES": shape.values, "WIDTH": shape.width}
        | kernel.blocks(shape.values, shape.width)
        | {"ALIKE": shape.alike, "SKIP": True, "BIAS": True, "GATE": shape.gate, "SOFTPLUS": True, "KEPT": True}
        | dict.fromkeys(one, 1),
        registers=112,
        shared=8192,
        label=f"state_space {shape.heads}x{shape.values}x{shape.width}{' each' if not shape.alike else ''}",
    )
