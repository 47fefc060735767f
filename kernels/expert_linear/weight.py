"""One linear of all experts of a layer, in the numbers that it is kept in."""

from typing import NamedTuple

import torch
from torch import Tensor

KINDS = ("fp8", "int8", "int4", "mxfp4", "table4")  # of few bits
MIDDLE = 8  # of `int4`: stands for 0
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # magnitudes of `mxfp4`: OCP Microscaling Formats, version 1.0
BIAS = 127  # of its scales


class ExpertWeight(NamedTuple):
    """`[experts, out, in]`. The inputs of each output are in groups of equal size, each with a scale."""

    kind: str  # `plain`, or one of `KINDS`
    codes: Tensor  # float8_e4m3fn or int8 `[experts, out, in]`; of four bits uint8 `[experts, out, in / 2]`
    scale: Tensor | None = None  # [experts, out, groups] float32; of `mxfp4` uint8: 2 to the power of it - `BIAS`
    offset: Tensor | None = None  # [experts, out, groups] float32, added to a scaled number; of `int4`
    table: Tensor | None = None  # [16] float32, what the codes of `table4` stand for: NF4, for one

    @property
    def shape(self) -> tuple[int, int, int]:
        """Experts, outputs, inputs."""
        experts, outputs, width = self.codes.shape
        return experts, outputs, width * (2 if self.codes.dtype == torch.uint8 else 1)

    @property
    def group(self) -> int:
        """Inputs that share a scale; 0 where there are none."""
        return 0 if self.scale is None else self.shape[2] // self.scale.shape[2]

    @property
    def bytes(self) -> int:
        """That it takes."""
        return sum(tensor.nbytes for tensor in self if isinstance(tensor, Tensor))

    def of(self, first: int, last: int) -> "ExpertWeight":
        """Some of the experts, not copied."""
        scale, offset = (part if part is None else part[first:last] for part in (self.scale, self.offset))
        return self._replace(codes=self.codes[first:last], scale=scale, offset=offset)

    def to(self, device: torch.device | str | None) -> "ExpertWeight":
        """On a device."""
        scale, offset, table = (x if x is None else x.to(device) for x in (self.scale, self.offset, self.table))
        return ExpertWeight(self.kind, self.codes.to(device), scale, offset, table)

    def widen(self, dtype: torch.dtype) -> Tensor:
        """`[experts, out, in]` in `dtype`; scaled in float32."""
        if self.kind == "plain":
            return self.codes.to(dtype)
        assert self.scale is not None
        scale = self.scale[..., None]
        if self.kind == "mxfp4":
            table = torch.tensor([*E2M1, *(-value for value in E2M1)], device=self.codes.device)
            numbers = table[torch.stack((self.codes & 15, self.codes >> 4), dim=-1).flatten(2).int()]
            scale = torch.ldexp(torch.ones_like(scale, dtype=torch.float32), scale.int() - BIAS)
        elif self.kind in ("int4", "table4"):
            places = torch.stack((self.codes >> 4, self.codes & 15), dim=-1).flatten(2)
            numbers = places.float() - MIDDLE if self.table is None else self.table[places.int()]
        else:
            numbers = self.codes.float()
        found = numbers.view(*self.scale.shape, -1) * scale
        if self.offset is not None:
            found = found + self.offset[..., None]
        wide: Tensor = found.flatten(2).to(dtype)
        return wide
