"""Few-bit linears in C for CPUs with AVX-512 BF16: a decoding step reads 5 or 7 bits of a weight rather than 16.

Neither torch nor torchao has a kernel that multiplies such weights as they are (`_weight_int4pack_mm_for_cpu` rounds
scales to bfloat16, has no six bits and no AMX). `kernels.native` compiles the sources beside this file.
"""

import ctypes
import functools
import math

import torch
from torch import Tensor

from kernels import native
from kernels.few_bit_linear.reference import FOUR, GROUP, SIX, TILE

BYTES = {FOUR: 320, SIX: 448}  # of a group of a tile
HIGHEST = 2.0**15  # limit of scales and centres as float16


class _Source(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weights",)),
        *((name, ctypes.c_int64) for name in ("n", "k")),
        *((name, ctypes.c_void_p) for name in ("kinds", "starts", "packed")),
        ("factor", ctypes.c_float),
        ("run", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("threads", "next", "packs", "failed")),
    ]


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("packed", "starts", "kinds", "bias", "x", "y")),
        *((name, ctypes.c_int64) for name in ("rows", "n", "k", "way")),
        ("factor", ctypes.c_float),
        ("run", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("sums16", "sums32")),
        *((name, ctypes.c_int64) for name in ("next", "chunk")),
    ]


class Library:
    """The compiled kernels."""

    def __init__(self, found: ctypes.CDLL) -> None:
        self.guess = found.few_bit_guess
        self.pack = found.few_bit_pack
        self.linear = found.few_bit_linear
        for function, structure in ((self.guess, _Source), (self.pack, _Source), (self.linear, _Job)):
            function.argtypes = [ctypes.POINTER(structure)]
        self.ways = native.ways()
        self.run = native.pool().run


class FewBitWeight:
    """A packed weight; `pack` makes it. One thread at a time may multiply with it."""

    def __init__(
        self,
        library: Library,
        shape: tuple[int, int],
        packed: Tensor,
        starts: Tensor,
        kinds: Tensor,
        factor: float,
        bias: Tensor | None,
    ) -> None:
        """`packed` is described in layout.h; scales must be multiplied by `factor`."""
        self.shape = shape
        self.nbytes = packed.nbytes
        self._library = library
        floats = None if bias is None else bias.detach().float().contiguous()
        self._held = (packed, starts, kinds, floats)  # kept alive: the job holds only their addresses
        self._job = _Job(
            packed=packed.data_ptr(),
            starts=starts.data_ptr(),
            kinds=kinds.data_ptr(),
            bias=None if floats is None else floats.data_ptr(),
            n=shape[0],
            k=shape[1],
            factor=factor,
            run=library.run,
        )

    @property
    def ways(self) -> list[int]:
        """The available ways to multiply, see `Library.ways`."""
        return self._library.ways

    def linear(self, x: Tensor, way: int = 0) -> Tensor:
        """`[..., k]` bfloat16 -> `[..., n]` bfloat16, by one of `Library.ways`.

        Raises:
            RuntimeError: there is not enough memory.
        """
        x = x.contiguous()
        n, k = self.shape
        rows = x.numel() // k
        y = torch.empty((*x.shape[:-1], n), dtype=torch.bfloat16)
        job = self._job
        job.x, job.y, job.rows, job.way = x.data_ptr(), y.data_ptr(), rows, way
        job.threads = torch.get_num_threads()
        if self._library.linear(job) != 0:
            raise RuntimeError("no memory is left for a product with few-bit weights")
        return y


def pack(weight: Tensor, bias: Tensor | None = None) -> FewBitWeight | None:
    """Pack a weight `[n, k]`, if it is a bfloat16 matrix on the CPU whose numbers are few-bit ones except for
    bfloat16's rounding (`kernels.few_bit_linear.reference`), and the kernels are available; else `None`. Weights that
    were never quantised are refused quickly.
    """
    usable = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.ndim == 2
    if not usable or not weight.is_contiguous() or weight.shape[1] % GROUP or not weight.numel():
        return None
    compiled = native.library()
    if compiled is None:
        return None
    library = _of(compiled)
    n, k = weight.shape
    kinds = torch.zeros(-(-n // TILE), dtype=torch.uint8)
    source = _Source(
        weights=weight.data_ptr(),
        n=n,
        k=k,
        kinds=kinds.data_ptr(),
        run=library.run,
        threads=torch.get_num_threads(),
    )
    if not library.guess(source):
        return None
    low, high = torch.aminmax(weight.detach())
    peak = 2 * max(-float(low), float(high), 1e-30)  # no scale or centre is larger
    factor = 2.0 ** math.ceil(math.log2(peak / HIGHEST))
    sizes = torch.where(kinds == FOUR, BYTES[FOUR], BYTES[SIX]).long() * (k // GROUP)
    starts = sizes.cumsum(0) - sizes
    packed = torch.empty(int(sizes.sum()), dtype=torch.uint8)
    source.starts, source.packed, source.factor = starts.data_ptr(), packed.data_ptr(), factor
    if not library.pack(source):
        return None
    return FewBitWeight(library, (n, k), packed, starts, kinds, factor, bias)


@functools.cache
def _of(compiled: ctypes.CDLL) -> Library:
    return Library(compiled)
