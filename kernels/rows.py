"""Tensors seen as rows, for kernels that work along the last dimension."""

from dataclasses import dataclass

from torch import Tensor


def dense(x: Tensor) -> Tensor:
    """With numbers of the last dimension side by side; a copy where they are not."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


@dataclass(frozen=True)
class Rows:
    """A tensor whose last dimension is contiguous, as rows in two levels: row `r` starts at
    `r // inner * outer_stride + r % inner * inner_stride` numbers after `data`'s first.
    """

    data: Tensor
    count: int
    inner: int
    outer_stride: int
    inner_stride: int


def rows_of(x: Tensor) -> Rows:
    """The rows of `x`, without a copy where two levels describe them: heads cut out of a wider product, for one."""
    x = dense(x)
    levels: list[
        tuple[int, int]
    ] = []  # (size, stride), outermost first; neighbours folded where one stride serves both
    for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True):
        if size == 1:
            continue
        if levels and levels[-1][1] == size * stride:
            levels[-1] = (levels[-1][0] * size, stride)
        else:
            levels.append((size, stride))
    if len(levels) > 2:
        return rows_of(x.contiguous())
    count = 1
    for size in x.shape[:-1]:
        count *= size
    if len(levels) == 2:
        return Rows(x, count, levels[1][0], levels[0][1], levels[1][1])
    return Rows(x, count, 1, levels[0][1] if levels else 0, 0)
