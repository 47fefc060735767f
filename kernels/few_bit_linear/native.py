"""Few-bit linears in C for CPUs with AVX-512 BF16: a decoding step reads 5 or 7 bits of a weight rather than 16.

Neither torch nor torchao has a kernel that multiplies such weights as they are (`_weight_int4pack_mm_for_cpu` rounds
scales to bfloat16, has no six bits and no AMX). The sources beside this file are compiled once per user by the C
compiler at hand, as Triton does it, for the very processor; threads are those of torch's own OpenMP pool.
"""

import ctypes
import functools
import hashlib
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.few_bit_linear.reference import FOUR, GROUP, SIX, TILE

HERE = Path(__file__).parent
SOURCES = ("cpu.c", "pack.c", "layout.h")
NEEDED = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "f16c", "fma"}  # as /proc/cpuinfo names them
WANTED = {"amx_tile", "amx_bf16"}
BYTES = {FOUR: 320, SIX: 448}  # of a group of a tile
HIGHEST = 2.0**15  # scales and centres as float16 are at most so large
_log = logging.getLogger(__name__)


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

    def __init__(self, path: Path) -> None:
        """Raises `OSError` where it can't be loaded."""
        found = ctypes.CDLL(str(path))
        self.guess = found.few_bit_guess
        self.pack = found.few_bit_pack
        self.linear = found.few_bit_linear
        for function, structure in ((self.guess, _Source), (self.pack, _Source), (self.linear, _Job)):
            function.argtypes = [ctypes.POINTER(structure)]
        ways = int(found.few_bit_ways())
        self.ways = [way for way in (0, 1) if ways >> way & 1]  # AVX-512's dot products, AMX
        self.pool = _pool()


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
        """What is packed is described in layout.h; scales are to be multiplied with `factor`."""
        self.shape = shape
        self.nbytes = packed.nbytes
        self._library = library
        floats = None if bias is None else bias.detach().float().contiguous()
        self._held = (packed, starts, kinds, floats)  # the job knows but their addresses
        self._job = _Job(
            packed=packed.data_ptr(),
            starts=starts.data_ptr(),
            kinds=kinds.data_ptr(),
            bias=None if floats is None else floats.data_ptr(),
            n=shape[0],
            k=shape[1],
            factor=factor,
            run=library.pool,
        )

    @property
    def ways(self) -> list[int]:
        """In which it can be multiplied, see `Library.ways`."""
        return self._library.ways

    def linear(self, x: Tensor, way: int = 0) -> Tensor:
        """`[..., k]` bfloat16 -> `[..., n]` bfloat16, by one of `Library.ways`.

        Raises:
            RuntimeError: memory is short.
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
    """Pack a weight `[n, k]`, if it is a bfloat16 matrix on the CPU whose numbers are few-bit ones but for bfloat16's
    rounding (`kernels.few_bit_linear.reference`), and the kernels can be had; else `None`. Weights that were never
    quantised are refused after a glance.
    """
    usable = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.ndim == 2
    if not usable or not weight.is_contiguous() or weight.shape[1] % GROUP or not weight.numel():
        return None
    library = load()
    if library is None:
        return None
    n, k = weight.shape
    kinds = torch.zeros(-(-n // TILE), dtype=torch.uint8)
    source = _Source(
        weights=weight.data_ptr(),
        n=n,
        k=k,
        kinds=kinds.data_ptr(),
        run=library.pool,
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
def load() -> Library | None:
    """The kernels, compiled if need be; `None` where this processor or this machine can't have them."""
    if os.environ.get("TROOP_NATIVE_KERNELS") == "0":
        return None
    lack = ""
    try:
        has = _features()
        if platform.machine() != "x86_64" or not has >= NEEDED:
            lack = "this processor lacks AVX-512 BF16"
        elif (compiler := _compiler()) is None:
            lack = "there is no C compiler: install gcc"
        else:
            return Library(_build(compiler, has))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or ""
        lack = f"they can't be compiled: {(output.strip() or str(error)).splitlines()[0]}"
    _log.info("no few-bit kernels: %s", lack)
    return None


def _features() -> set[str]:
    """What the processor has, in Linux' words."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return set()
    line = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def _compiler() -> list[str] | None:
    asked = os.environ.get("CC")
    if asked:
        return shlex.split(asked)
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    return [found] if found else None


def _build(compiler: list[str], has: set[str]) -> Path:
    """The compiled library, out of the user's cache where it lies there."""
    flags = [f"-m{name.replace('avx512_bf16', 'avx512bf16').replace('_', '-')}" for name in sorted(NEEDED)]
    if has >= WANTED:
        flags += [f"-m{name.replace('_', '-')}" for name in sorted(WANTED)]
    argv = [*compiler, "-O3", "-std=gnu11", "-fPIC", "-shared", *flags]
    key = hashlib.sha256(repr(argv).encode())
    for name in SOURCES:
        key.update((HERE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troop" / "kernels"
    target = cache / f"few_bit-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = tempfile.mkdtemp(prefix=".build", dir=cache)
    except OSError:  # a home that can't be written to
        folder = tempfile.mkdtemp(prefix="troop-kernels")
        target = Path(folder) / target.name
    made = Path(folder) / "made.so"
    sources = [str(HERE / name) for name in SOURCES if name.endswith(".c")]
    try:
        subprocess.run(
            [*argv, "-o", str(made), *sources, "-lm"], check=True, capture_output=True, text=True, timeout=120
        )
        made.replace(target)  # at once whole
    finally:
        if target.parent != Path(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return target


def _pool() -> Any:
    """The address of the function that runs a piece of C on all threads of torch's pool; `None`: on one thread."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None
