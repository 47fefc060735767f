"""Weights as quantised checkpoints store them: pure functions of a weight's parts.

Each takes the tensors that belong to one weight, by the last part of their names, and gives what they mean: numbers and
scales of `[out, in]`, or where no scales of that kind are, the plain weight in float32 (experts `[experts, in, out]`).
"""

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.quantized import Quantized, Tabled
from kernels.expert_linear.weight import ExpertWeight

Parts = Mapping[str, Tensor]

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where each of 8 neighbouring numbers is in its int32
E2M1 = tuple(sign * number for sign in (1, -1) for number in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))  # by code
NESTED = ("weight.nested_absmax", "weight.nested_quant_map")  # of bitsandbytes' double quantisation


class Packing(NamedTuple):
    """What a configuration says about all weights."""

    bits: int = 4
    group: int = 0  # numbers of a row that share a scale; 0 or less: all
    block: tuple[int, int] | None = None  # rows and columns that share a scale, of FP8
    zero_offset: int = 0  # added to stored zero points: 1 in GPTQ's first format


def unpack(packed: Tensor, bits: int, dim: int) -> Tensor:
    """Unsigned numbers of `bits` bits out of int32, the lowest first, along `dim`."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=packed.device)
    last = packed.movedim(dim, -1)
    found = (last[..., None] >> shifts) & ((1 << bits) - 1)
    return found.flatten(-2).movedim(-1, dim)


def fp8(parts: Parts, packing: Packing) -> Quantized:
    """`weight` float8, `weight_scale_inv` or `weight_scale`: one, one a row, or one a block."""
    weight = parts["weight"]
    scale = (parts["weight_scale_inv"] if "weight_scale_inv" in parts else parts["weight_scale"]).float()
    each = (*weight.shape[:-1], 1)
    if scale.numel() == 1:
        return Quantized(weight, scale.view((1,) * weight.ndim).expand(each))
    if scale.ndim == 1 or scale.shape == each:
        return Quantized(weight, scale.view(each))
    rows, columns = packing.block or (weight.shape[-2] // scale.shape[-2], weight.shape[-1] // scale.shape[-1])
    if scale.shape[-2:] != (-(-weight.shape[-2] // rows), -(-weight.shape[-1] // columns)):
        raise ValueError(f"no scale for each block of {rows} x {columns}")
    group = torch.arange(weight.shape[-1], device=weight.device) // columns
    return Quantized(weight, scale.repeat_interleave(rows, -2)[..., : weight.shape[-2], :], group=group)


def scaled(parts: Parts, packing: Packing) -> Quantized | Tabled:
    """`weight` float8 and `scale`, one a block; or int8, two numbers of 4 bits (E2M1) each, the first in the low bits,
    and `scale` `[out, groups]`.
    """
    weight, scale = parts["weight"], parts["scale"].float()
    if weight.dtype != torch.int8:
        return fp8({"weight": weight, "weight_scale": scale}, packing)
    codes = weight.view(torch.uint8)
    return Tabled(torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2), torch.tensor(E2M1), scale)


def compressed_ints(parts: Parts, packing: Packing) -> Quantized:
    """compressed-tensors: `weight_packed` int32 `[out, in / 8]` and `weight_shape`, or `weight` int8; `weight_scale`
    `[out, groups]`; perhaps `weight_zero_point`, `weight_g_idx`.
    """
    zero, bits = parts.get("weight_zero_point"), 8
    if "weight_packed" in parts:
        bits = packing.bits
        rows, columns = (int(size) for size in parts["weight_shape"])
        middle = 1 << (bits - 1)
        numbers = (unpack(parts["weight_packed"], bits, 1)[:rows, :columns] - middle).to(torch.int8)
        if zero is not None and zero.dtype == torch.int32:
            zero = unpack(zero, bits, 0)[:rows] - middle
    else:
        numbers = parts["weight"]
    scale = parts["weight_scale"].float()
    scale = scale.view(1, 1).expand(len(numbers), 1) if scale.numel() == 1 else scale.view(scale.shape[0], -1)
    if zero is not None:
        zero = zero.float().expand(scale.shape) if zero.numel() == 1 else zero.float().reshape(scale.shape)
    return Quantized(numbers, scale, zero, _group(parts.get("weight_g_idx")), bits)


def gptq(parts: Parts, packing: Packing) -> Quantized:
    """`qweight` int32 `[in / 8, out]`, `qzeros` int32 `[groups, out / 8]`, `scales` `[groups, out]`, `g_idx` `[in]`."""
    numbers = unpack(parts["qweight"], packing.bits, 0)
    scales = parts["scales"].float()
    zeros = (unpack(parts["qzeros"], packing.bits, 1) + packing.zero_offset)[:, : scales.shape[1]]
    return _unsigned(numbers, scales, zeros, packing.bits, _group(parts.get("g_idx")))


def awq(parts: Parts, packing: Packing) -> Quantized:
    """`qweight` int32 `[in, out / 8]`, `qzeros` int32 `[groups, out / 8]`, `scales` `[groups, out]`."""
    order = torch.tensor(AWQ_ORDER, device=parts["qweight"].device)
    numbers, zeros = (
        unpack(parts[name], 4, 1).reshape(len(parts[name]), -1, 8)[:, :, order].flatten(1)
        for name in ("qweight", "qzeros")
    )
    return _unsigned(numbers, parts["scales"].float(), zeros, 4)


def _unsigned(numbers: Tensor, scales: Tensor, zeros: Tensor, bits: int, group: Tensor | None = None) -> Quantized:
    """Of unsigned numbers `[in, out]`, with scales and zero points `[groups, out]`."""
    middle = 1 << (bits - 1)
    signed = (numbers - middle).to(torch.int8).T.contiguous()
    return Quantized(signed, scales.T.contiguous(), (zeros - middle).float().T.contiguous(), group, bits)


def mxfp4(parts: Parts, packing: Packing) -> Tensor:
    """`blocks` uint8 `[experts, out, groups, 16]`, two numbers each, `scales` uint8 `[experts, out, groups]`."""
    return mxfp4_packed(parts).widen(torch.float32).transpose(-1, -2).contiguous()


def mxfp4_packed(parts: Parts) -> ExpertWeight:
    """The same, as it is kept."""
    return ExpertWeight("mxfp4", parts["blocks"].flatten(2), parts["scales"])


def bitsandbytes_int8(parts: Parts, packing: Packing) -> Quantized:
    """`weight` int8 `[out, in]`, `SCB` float32 `[out]`: the largest magnitude of each row; perhaps `weight_format`."""
    if "weight_format" in parts and int(parts["weight_format"]):
        raise ValueError("an int8 weight of bitsandbytes that is laid out for old GPUs, not by rows")
    return Quantized(parts["weight"], parts["SCB"].float()[:, None], unit=1 / 127)


def bitsandbytes_4bit(parts: Parts, packing: Packing) -> Tabled | Tensor:
    """`weight`, two numbers a byte, the first in the high bits, in a tensor of any dtype; `weight.quant_map` `[16]`,
    their values; `weight.absmax`, the scale of each block, or its place in `weight.nested_quant_map` `[256]`, whose
    scales are `weight.nested_absmax` (double quantisation). A JSON object in bytes says the rest.
    """
    (text,) = (part for end, part in parts.items() if ".quant_state." in end)
    state = json.loads(bytes(text.tolist()))
    absmax = parts["weight.absmax"]
    if "weight.nested_absmax" in parts:
        nested = parts["weight.nested_absmax"].float()
        places = torch.arange(len(absmax), device=absmax.device) // int(state["nested_blocksize"])
        absmax = parts["weight.nested_quant_map"].float()[absmax.long()] * nested[places] + state["nested_offset"]
    packed = parts["weight"].contiguous().flatten().view(torch.uint8)
    numbers = torch.stack((packed >> 4, packed & 15), dim=-1).flatten()[: prod(state["shape"])]
    table, size, shape = parts["weight.quant_map"].float(), int(state["blocksize"]), state["shape"]
    if len(shape) == 2 and shape[1] % size == 0:  # no block reaches from one row into the next
        return Tabled(numbers.view(shape), table, absmax.float().view(shape[0], -1))
    scale = absmax.float().repeat_interleave(size)[: len(numbers)]
    return (table[numbers.int()] * scale).view(shape)


def _group(found: Tensor | None) -> Tensor | None:
    """The scale of each number of a row; -1: not set."""
    return None if found is None or int(found.min()) < 0 else found.long()


class Format(NamedTuple):
    """How one method stores weights."""

    ends: tuple[str, ...]  # of the names of a weight's parts; the first marks a weight that is stored so
    whole: str  # end of the plain weight's name
    read: Callable[[Parts, Packing], Quantized | Tabled | Tensor]
    unused: tuple[str, ...] = ()  # ends of what only the method's own kernels need
    optional: tuple[str, ...] = ()  # those of `ends` that a weight may lack
    common: bool = False  # plain parameters have such names, too: without a weight that is no plain one, it is none
    pack: Callable[[Parts], ExpertWeight] | None = None  # of experts in one tensor: as they are kept
    kind: str = ""  # of what `pack` gives


FORMATS = {
    "fp8": (
        Format(("weight_scale_inv", "weight"), "weight", fp8, ("activation_scale", "input_scale")),
        Format(("weight_scale", "weight"), "weight", fp8, ("activation_scale", "input_scale")),
        Format(("scale", "weight"), "weight", scaled, common=True),  # DeepSeek V4
    ),
    "compressed-float": (Format(("weight_scale", "weight"), "weight", fp8, ("input_scale", "output_scale")),),
    "compressed-int": (
        Format(
            ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"),
            "weight",
            compressed_ints,
            optional=("weight_zero_point", "weight_g_idx"),
        ),
        Format(
            ("weight_scale", "weight", "weight_zero_point"),
            "weight",
            compressed_ints,
            ("input_scale",),
            ("weight_zero_point",),
        ),
    ),
    "gptq": (Format(("qweight", "qzeros", "scales", "g_idx"), "weight", gptq, optional=("g_idx",)),),
    "awq": (Format(("qweight", "qzeros", "scales"), "weight", awq),),
    "mxfp4": (Format(("blocks", "scales"), "", mxfp4, pack=mxfp4_packed, kind="mxfp4"),),
    "bitsandbytes": (
        Format(("SCB", "weight", "weight_format"), "weight", bitsandbytes_int8, optional=("weight_format",)),
        *(
            Format(
                (state, "weight", "weight.absmax", "weight.quant_map", *NESTED),
                "weight",
                bitsandbytes_4bit,
                optional=NESTED,
            )
            for state in ("weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4")
        ),
    ),
}
