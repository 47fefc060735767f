"""Forms of a linear's weight, on a CPU or of few bits, and the choice among them by a trial.

What is fastest depends on the number of rows. A few rows are bound by reading the weight from memory: there the fewest
bits win (`kernels.few_bit_linear`, for weights that have few). Many rows are bound by the processor's matrix units,
which need bfloat16 in oneDNN's blocked layout. In between it depends on the processor, so it is measured.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kernels.few_bit_linear.native import FewBitWeight

ROWS = 64  # the blocked layout is made for this many; any number may be computed
# oneDNN keeps half a megabyte of code for each number of rows, so only few different numbers reach it.
STEP = 8  # rows; smaller products are padded to a multiple of it
FEW = 128  # rows; with more, laying a weight out anew costs little beside the product
WIDE_STEP = 64  # as STEP, for more than FEW rows and a weight that is not kept in its plain layout

GRID = (1, 2, 4, 8, 16, 24, 32, 48, 64, 128)  # rows that are tried; more are as the last
TRIES = 3
BEHIND = 2.0  # a form this many times slower than the best is not tried with more rows

Form = Callable[[Tensor], Tensor]


class Blocked:
    """`torch.nn.functional.linear` with a weight in oneDNN's layout, and the plain one beside it for some shapes."""

    __slots__ = ("_bias", "_call", "_plain", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None, plain: Tensor | None = None) -> None:
        self._weight = weight
        self._bias = bias
        self._plain = plain  # for one row and for many
        self._call: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if self._plain is not None and (rows == 1 or rows > FEW):
            return nn.functional.linear(x, self._plain, self._bias)
        step = STEP if rows <= FEW else WIDE_STEP
        if rows == 1 or rows % step == 0:
            return self._call(x, self._weight, self._bias, "none", [], "")
        flat = nn.functional.pad(x.reshape(rows, -1), (0, 0, 0, -rows % step))
        found = self._call(flat, self._weight, self._bias, "none", [], "")[:rows]
        return found.view(*x.shape[:-1], -1)


class FewBitForm:
    """The same with a few-bit weight, by one of its ways."""

    __slots__ = ("_call", "_way")

    def __init__(self, weight: FewBitWeight, way: int) -> None:
        self._call = weight.linear
        self._way = way

    def __call__(self, x: Tensor) -> Tensor:
        return self._call(x, self._way)


class Product:
    """A linear that chooses the form of its weight by the number of rows."""

    __slots__ = ("_by_rows", "_last", "forms", "shape")

    def __init__(self, forms: Sequence[Form], shape: tuple[int, int]) -> None:
        """`forms`: the one for many rows last; it computes everything until `choose` is called."""
        self.forms = forms
        self.shape = shape  # outputs, inputs
        self._last = forms[-1]
        self._by_rows: list[Form] = []  # from 0 rows

    def choose(self, best: Sequence[int]) -> None:
        """Use form `best[rows]` for each number of rows, and the last form for more."""
        self._by_rows = [self.forms[index] for index in best]

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        return self._by_rows[rows](x) if rows < len(self._by_rows) else self._last(x)


@torch.inference_mode()
def try_forms(products: Sequence[Product], like: Tensor) -> list[int]:
    """Measure the forms of products of one shape and kind, one after another as in a step, so that weights come from
    memory as they do there; let all use the fastest. Returns the form for each number of rows, from 0.

    Measured as the CPU time of one thread, so that other load does not matter, or on a GPU in a CUDA graph.

    Args:
        products: at least one.
        like: of the inputs' dtype and device.
    """
    if len(products[0].forms) == 1:
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = fastest(_measure(products, like))
    finally:
        torch.set_num_threads(threads)
    for product in products:
        product.choose(best)
    return best


def _measure(products: Sequence[Product], like: Tensor) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Seconds, `[forms, len(GRID)]`, infinite where a form was not tried."""
    forms = len(products[0].forms)
    inputs = products[0].shape[1]
    seconds = np.full((forms, len(GRID)), np.inf)
    left = list(range(forms))
    turn = 0
    for at, rows in enumerate(GRID):
        x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(0)).to(like)
        for index in left:  # the first call's preparations are not measured
            products[turn % len(products)].forms[index](x)
        for _ in range(TRIES):
            for index in left:
                turn += 1
                form = products[turn % len(products)].forms[index]
                seconds[index, at] = min(seconds[index, at], _seconds(form, x))
        left = [index for index in left if seconds[index, at] <= BEHIND * seconds[:, at].min() or index == forms - 1]
        if left == [forms - 1]:
            break
    return seconds


def _seconds(form: Form, x: Tensor) -> float:
    if x.device.type == "cuda":
        from triton.testing import do_bench_cudagraph

        return float(do_bench_cudagraph(lambda: form(x), rep=2)) / 1000
    begin = time.thread_time()
    form(x)
    return time.thread_time() - begin


def fastest(seconds: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> list[int]:
    """The fastest form for each number of rows, from 0; between the tried ones by interpolation.

    Args:
        seconds: as of `_measure`.
    """
    rows = np.arange(GRID[-1] + 1)
    last = len(seconds) - 1
    known = np.where(np.isinf(seconds), 1e9, seconds)
    found = np.stack([np.interp(rows, GRID, each) for each in known]).argmin(axis=0)
    untried = np.asarray(np.isinf(seconds).all(axis=0))
    chosen: list[int] = np.where(untried[np.searchsorted(GRID, rows)], last, found).tolist()
    while chosen and chosen[-1] == last:
        chosen.pop()
    return chosen
