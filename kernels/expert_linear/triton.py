"""The linears of experts by Triton, over plain weights or such of few bits. Same function as `reference.expert_linear`.

A tile is some rows of one expert by some outputs. How many tiles an expert has is known on the device alone, so that
as many programs are launched as there can be tiles, whatever was chosen: the launch can be recorded as a CUDA graph.
Each finds its expert from the bounds of all, and those that are too many end at once.

Numbers of few bits are widened in registers. Where a scale is for at least as many inputs as a step reads, it is
multiplied with the step's product, in float32; else with the weights. Products of float32 are three on the tensor
cores: one by one they would need ten times the registers that there are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.expert_linear.reference import Groups
from kernels.expert_linear.weight import ExpertWeight

OUTPUTS = 64  # of a tile
FEW, MANY = 16, {False: 64, True: 32}  # rows of a tile, with four bits fewer: registers hold the widened weights too
FOUR = ("int4", "mxfp4", "table4")
STEP = 64  # inputs read at once, or bytes of two inputs each


@triton.jit
def _from_fp8(codes):
    """Bits of an E4M3 number as those of a float16, which has a larger bias of its exponent: 256 times smaller."""
    wide = codes.to(tl.int16)
    return (((wide & 0x80) << 8) | ((wide & 0x7F) << 7)).to(tl.float16, bitcast=True)


@triton.jit
def _from_fp4(codes):
    """Bits of an E2M1 number as those of a float16: 2 ** 14 times smaller."""
    wide = codes.to(tl.int16)
    return (((wide & 8) << 12) | ((wide & 7) << 9)).to(tl.float16, bitcast=True)


@triton.jit
def _widened(codes, table, KIND: tl.constexpr):
    """Numbers of few bits in float32."""
    if KIND == "fp8":
        found = _from_fp8(codes).to(tl.float32) * 256.0
    elif KIND == "mxfp4":
        found = _from_fp4(codes).to(tl.float32) * 16384.0
    elif KIND == "table4":
        found = tl.load(table + codes.to(tl.int32))
    elif KIND == "int4":
        found = codes.to(tl.float32) - 8.0
    else:
        found = codes.to(tl.float32)
    return found


@triton.jit
def _factors(scale, at, mask, KIND: tl.constexpr):
    """Scales in float32."""
    if KIND == "mxfp4":
        bits = tl.load(scale + at, mask=mask, other=0).to(tl.int32)
        found = tl.where(bits == 0, 0x400000, bits << 23).to(tl.float32, bitcast=True)
    else:
        found = tl.load(scale + at, mask=mask, other=0.0)
    return found


@triton.jit
def _scaled(codes, scale, offset, table, base, at, inside, KIND: tl.constexpr, GROUP: tl.constexpr, EACH: tl.constexpr):
    """Codes `[STEP, OUTPUTS]` from input `at` on, each of which stands for `EACH` inputs, as numbers: groups are
    shorter than a step. `base` is where each output's scales begin.
    """
    step: tl.constexpr = codes.shape[0]
    width: tl.constexpr = codes.shape[1]
    count: tl.constexpr = step * EACH // GROUP
    places = base[None, :] + at // GROUP + tl.arange(0, count)[:, None]
    known = inside[None, :] & (tl.arange(0, count)[:, None] >= 0)
    found = tl.reshape(_widened(codes, table, KIND), [count, GROUP // EACH, width])
    found = found * _factors(scale, places, known, KIND)[:, None, :]
    if offset is not None:
        found = found + tl.load(offset + places, mask=known, other=0.0)[:, None, :]
    return tl.reshape(found, [step, width])


@triton.jit
def _expert_linear(
    x,
    codes,
    scale,
    offset,
    table,
    bias,
    order,
    bounds,
    out,
    row_stride,
    expert_stride,
    output_stride,
    input_stride,
    outputs,
    inputs,
    groups,
    SHARE: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROOM: tl.constexpr,
    KIND: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEP: tl.constexpr,
    EVEN: tl.constexpr,
):
    number = tl.arange(0, ROOM)
    begins = tl.load(bounds + number, mask=number < EXPERTS, other=0)
    ends = tl.load(bounds + 1 + number, mask=number < EXPERTS, other=0)
    tiles = (ends - begins + ROWS - 1) // ROWS
    tile = tl.program_id(0)
    expert = tl.sum(((tl.cumsum(tiles, 0) <= tile) & (number < EXPERTS)).to(tl.int32), 0)
    if expert < EXPERTS:
        tile -= tl.sum(tl.where(number < expert, tiles, 0), 0)
        place = tl.load(bounds + expert) + tile * ROWS + tl.arange(0, ROWS)
        here = place < tl.load(bounds + expert + 1)
        pair = tl.load(order + place, mask=here, other=0)
        row = x + (pair // SHARE).to(tl.int64) * row_stride
        column = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
        inside = column < outputs
        own = codes + expert.to(tl.int64) * expert_stride + column.to(tl.int64) * output_stride
        base = (expert.to(tl.int64) * outputs + column) * groups
        total = tl.zeros([ROWS, OUTPUTS], tl.float32)
        kind: tl.constexpr = x.dtype.element_ty
        four: tl.constexpr = KIND == "int4" or KIND == "mxfp4" or KIND == "table4"
        each: tl.constexpr = 2 if four else 1
        for at in range(0, inputs, STEP * each):
            inner = at // each + tl.arange(0, STEP)
            if EVEN:
                read = here[:, None] & (inner[None, :] >= 0)
                stored = inside[None, :] & (inner[:, None] >= 0)
            else:
                read = here[:, None] & (inner * each < inputs)[None, :]
                stored = inside[None, :] & (inner * each < inputs)[:, None]
            numbers = tl.load(own[None, :] + inner[:, None] * input_stride, mask=stored, other=0)
            first = tl.load(row[:, None] + inner[None, :] * each, mask=read, other=0.0)
            if not four:
                if KIND == "plain":
                    total = tl.dot(first, numbers, total, input_precision="tf32x3")
                else:
                    product = tl.dot(first, _widened(numbers, table, KIND).to(kind), input_precision="tf32x3")
                    total += product * _factors(scale, base + at // GROUP, inside, KIND)[None, :]
            else:
                second = tl.load(row[:, None] + inner[None, :] * 2 + 1, mask=read, other=0.0)
                if KIND != "mxfp4":
                    even, odd = numbers >> 4, numbers & 15
                else:
                    even, odd = numbers & 15, numbers >> 4
                if GROUP % (STEP * 2):
                    weights = _scaled(even, scale, offset, table, base, at, inside, KIND, GROUP, each)
                    total = tl.dot(first, weights.to(kind), total, input_precision="tf32x3")
                    weights = _scaled(odd, scale, offset, table, base, at, inside, KIND, GROUP, each)
                    total = tl.dot(second, weights.to(kind), total, input_precision="tf32x3")
                else:
                    product = tl.dot(first, _widened(even, table, KIND).to(kind), input_precision="tf32x3")
                    product = tl.dot(second, _widened(odd, table, KIND).to(kind), product, input_precision="tf32x3")
                    total += product * _factors(scale, base + at // GROUP, inside, KIND)[None, :]
                    if offset is not None:
                        whole = tl.sum(first.to(tl.float32) + second.to(tl.float32), 1)
                        added = tl.load(offset + base + at // GROUP, mask=inside, other=0.0)
                        total += whole[:, None] * added[None, :]
        if bias is not None:
            total += tl.load(bias + expert * outputs + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        target = out + pair.to(tl.int64)[:, None] * outputs + column[None, :]
        tl.store(target, total.to(out.dtype.element_ty), mask=here[:, None] & inside[None, :])


def rows_of_a_tile(kind: str, pairs: int, experts: int) -> int:
    """How many rows a tile has: many where experts have many on average."""
    return MANY[kind in FOUR] if pairs >= experts * FEW * 2 else FEW


def step_of(weight: ExpertWeight) -> int:
    """Inputs, or bytes of two inputs each, that are read at once.

    Raises:
        ValueError: its groups are of a size that the kernel does not read.
    """
    group, inputs = weight.group, weight.shape[2]
    four = weight.codes.dtype == torch.uint8
    for step in (STEP, STEP // 2, STEP // 4):
        width = step * (2 if four else 1)
        if not group or group % width == 0 or (not four and group == inputs):
            return step
        if four and width % group == 0 and inputs % width == 0:
            return step
    raise ValueError(f"no kernel for groups of {group} of {inputs} inputs")


def expert_linear(x: Tensor, weight: ExpertWeight, groups: Groups, share: int, bias: Tensor | None = None) -> Tensor:
    """See `reference.expert_linear`. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: the weight's groups are of a size that the kernel does not read.
    """
    experts, outputs, inputs = weight.shape
    pairs = len(groups.order)
    out = torch.empty(pairs, outputs, dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    rows, step = rows_of_a_tile(weight.kind, pairs, experts), step_of(weight)
    each = 2 if weight.codes.dtype == torch.uint8 else 1
    codes = weight.codes.view(torch.uint8) if weight.kind == "fp8" else weight.codes
    x = x if x.stride(-1) == 1 else x.contiguous()
    tiles = min(pairs, pairs // rows + experts)
    _expert_linear[(tiles, triton.cdiv(outputs, OUTPUTS))](
        x,
        codes,
        weight.scale,
        weight.offset,
        weight.table,
        bias,
        groups.order,
        groups.bounds,
        out,
        x.stride(0),
        *codes.stride(),
        outputs,
        inputs,
        0 if weight.scale is None else weight.scale.shape[2],
        SHARE=share,
        EXPERTS=experts,
        ROOM=triton.next_power_of_2(experts),
        KIND=weight.kind,
        GROUP=weight.group,
        ROWS=rows,
        OUTPUTS=OUTPUTS,
        STEP=step,
        EVEN=inputs % (step * each) == 0,
        num_warps=4,
        num_stages=2 if x.dtype == torch.float32 else 4,
    )
    return out
