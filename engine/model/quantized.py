"""Quantised weights: as a checkpoint means them, and as they are kept in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.expert_linear.weight import ExpertWeight

FP8 = torch.float8_e4m3fn
GROUPS = (256, 128, 64, 32)  # inputs that share a scale, as torch's kernels for four bits have them
FOUR = ("int4", "table4")  # kinds of four bits
MIDDLE = 8  # what is added to a signed number of four bits


class Packed(NamedTuple):
    """A weight `[out, in]` as it is kept. Each row's inputs are in groups of equal size."""

    kind: str  # `fp8`, `fp8-blocks`, `int8`, `int4` or `table4`
    # [out, in] float8_e4m3fn or int8; of four bits [out, in / 2] uint8, the first number in the high bits
    codes: Tensor
    scale: Tensor  # [out, groups] float32
    offset: Tensor | None = None  # [out, groups] float32, added to a scaled number; of `int4`
    order: Tensor | None = None  # [in] int64: which input each column is for, where they are not in order
    table: Tensor | None = None  # [16] float32: what the codes of `table4` stand for

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs, inputs."""
        return self.codes.shape[0], self.codes.shape[1] * (2 if self.kind in FOUR else 1)

    @property
    def bytes(self) -> int:
        """That it takes."""
        return sum(tensor.nbytes for tensor in self if isinstance(tensor, Tensor))

    def to(self, device: torch.device | str | None) -> "Packed":
        """On a device."""
        offset, order, table = (x if x is None else x.to(device) for x in (self.offset, self.order, self.table))
        return Packed(self.kind, self.codes.to(device), self.scale.to(device), offset, order, table)

    def outputs(self, begin: int, end: int) -> "Packed":
        """Those of some outputs."""
        offset = None if self.offset is None else self.offset[begin:end]
        return self._replace(codes=self.codes[begin:end], scale=self.scale[begin:end], offset=offset)

    def numbers(self) -> Tensor:
        """Of four bits: `[out, in]` uint8, 0 to 15; of `int4`, `MIDDLE` stands for 0."""
        return torch.stack((self.codes >> 4, self.codes & 15), dim=-1).flatten(1)

    def widen(self, dtype: torch.dtype) -> Tensor:
        """`[out, in]` in `dtype`, columns as they are kept."""
        if self.table is not None:  # rounded once, as a checkpoint that is dequantised
            grouped = self.table[self.numbers().int()].view(*self.scale.shape, -1)
            return (grouped * self.scale[..., None]).to(dtype).view(self.shape)
        scale = self.scale.to(dtype)
        if self.kind == "int8":
            return self.codes * scale
        if self.kind == "int4":
            grouped = self.numbers().view(torch.int8).sub_(MIDDLE).view(*scale.shape, -1)
            found = grouped * scale[..., None]
            if self.offset is not None:
                found += self.offset.to(dtype)[..., None]
        else:
            found = self.codes.to(dtype).view(*scale.shape, -1).mul_(scale[..., None])
        return found.view(self.shape)

    def plain(self, dtype: torch.dtype) -> Tensor:
        """`[out, in]` in `dtype`."""
        found = self.widen(dtype)
        return found if self.order is None else found[:, self.order.argsort()]


def stacks(weights: Sequence[Packed]) -> bool:
    """Whether weights can be one, with their outputs side by side."""
    first = weights[0]
    return all(
        (each.kind, each.shape[1], each.scale.shape[1], each.offset is None)
        == (first.kind, first.shape[1], first.scale.shape[1], first.offset is None)
        and all(one is other or _equal(one, other) for one, other in zip(each[4:], first[4:], strict=True))
        for each in weights
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and torch.equal(one, other)


def stack(weights: Sequence[Packed]) -> Packed:
    """Weights that `stacks` allows as one."""
    first = weights[0]
    offsets = [each.offset for each in weights if each.offset is not None]
    codes = torch.cat([each.codes.view(torch.uint8) for each in weights]).view(first.codes.dtype)
    scale = torch.cat([each.scale for each in weights])
    return Packed(first.kind, codes, scale, torch.cat(offsets) if offsets else None, first.order, first.table)


def stack_experts(weights: Sequence[Packed]) -> ExpertWeight | None:
    """Weights of one linear of each expert as one, in turn; `None` where they are kept in different ways."""
    if not stacks(weights) or weights[0].order is not None:
        return None
    first = weights[0]
    codes = torch.stack([each.codes.view(torch.uint8) for each in weights]).view(first.codes.dtype)
    offsets = [each.offset for each in weights if each.offset is not None]
    scale = torch.stack([each.scale for each in weights])
    offset = torch.stack(offsets) if offsets else None
    return ExpertWeight(first.kind.partition("-")[0], codes, scale, offset, first.table)


def join_experts(weights: Sequence[ExpertWeight]) -> ExpertWeight | None:
    """Several weights of all experts as one, with their outputs side by side; `None` where they can't be."""
    first = weights[0]
    alike = {(each.kind, each.shape[::2], each.group, each.offset is None) for each in weights}
    if len(alike) > 1 or not all(each.table is first.table or _equal(each.table, first.table) for each in weights):
        return None
    codes = torch.cat([each.codes.view(torch.uint8) for each in weights], 1).view(first.codes.dtype)
    scale, offset = (
        None if each[0] is None else torch.cat([part for part in each if part is not None], 1)
        for each in zip(*(weight[2:4] for weight in weights), strict=True)
    )
    return ExpertWeight(first.kind, codes, scale, offset, first.table)


class Quantized(NamedTuple):
    """A weight as a checkpoint means it: `(numbers - zero) * scale * unit`, rounded in this order."""

    numbers: Tensor  # [..., out, in] float8_e4m3fn, or int8 of `bits` bits
    scale: Tensor  # [..., out, groups] float32
    zero: Tensor | None = None  # [out, groups] float32
    group: Tensor | None = None  # [in] int64, the group of each input; None: groups of equal size, in order
    bits: int = 8
    unit: float = 1.0

    def plain(self) -> Tensor:
        """`[..., out, in]` float32."""
        columns, groups = self.numbers.shape[-1], self.scale.shape[-1]
        index = self.group
        if index is None and groups > 1:
            index = torch.arange(columns, device=self.numbers.device) * groups // columns
        found = self.numbers.float()
        if self.zero is not None:
            found = found - (self.zero if index is None else self.zero[..., index])
        found = found * (self.scale if index is None else self.scale[..., index])
        return found if self.unit == 1 else found * self.unit

    def pack(self) -> Packed | None:
        """As it is kept; `None` where it is of a form that no kernel of torch computes."""
        if self.numbers.ndim != 2:
            return None
        numbers, order = self.numbers, self.group
        columns, groups = numbers.shape[1], self.scale.shape[1]
        if order is not None:
            if not (order.bincount(minlength=groups) * groups == columns).all():
                return None
            order = order.argsort(stable=True)
            in_order = torch.equal(order, torch.arange(columns, device=order.device))
            order = None if in_order else order
        if columns % groups:
            return None
        if numbers.dtype == FP8:
            return Packed("fp8" if groups == 1 else "fp8-blocks", numbers, self.scale) if order is None else None
        if self.bits == 8:
            scale = self.scale * self.unit
            return Packed("int8", numbers, scale) if groups == 1 and self.zero is None and order is None else None
        group = next((each for each in GROUPS if columns // groups % each == 0), 0)
        if self.bits > 4 or not group:
            return None
        places = (numbers if order is None else numbers[:, order]).to(torch.int8).add(MIDDLE).view(torch.uint8)
        repeat = columns // groups // group
        scale = self.scale.repeat_interleave(repeat, 1)
        offset = None if self.zero is None else (self.scale * self.zero).neg().repeat_interleave(repeat, 1)
        return Packed("int4", places[:, ::2] << 4 | places[:, 1::2], scale, offset, order)


class Tabled(NamedTuple):
    """A weight whose numbers of four bits are places in a table, as a checkpoint means it: `table[numbers] * scale`."""

    numbers: Tensor  # [out, in] uint8
    table: Tensor  # [16] float32
    scale: Tensor  # [out, groups] float32

    def plain(self) -> Tensor:
        """`[out, in]` float32."""
        found = self.table[self.numbers.int()].view(*self.scale.shape, -1) * self.scale[..., None]
        return found.view(self.numbers.shape)

    def pack(self) -> Packed:
        """As it is kept."""
        codes = self.numbers[:, ::2] << 4 | self.numbers[:, 1::2]
        return Packed("table4", codes, self.scale, table=self.table)
