"""Kernels in C for CPUs: how they are compiled and called.

Torch's operations on bfloat16 go through float32 copies, one call each; between a decoding step's small products every
call costs as much as its arithmetic. The C sources in the folders beside this file do each in one pass. They need
AVX-512 BF16, and are compiled once per user by the installed C compiler, as Triton does; without such a processor or
compiler, torch computes. `TROOP_NATIVE_KERNELS=0` disables them. They run on torch's own OpenMP threads.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
NEEDED = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "f16c", "fma"}  # as /proc/cpuinfo names them
WANTED = {"amx_tile", "amx_bf16"}
_log = logging.getLogger(__name__)


class Pool(ctypes.Structure):
    """`struct pool` of native.h."""

    _fields_ = [("run", ctypes.c_void_p), ("threads", ctypes.c_int64)]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; `None` if this machine cannot run or compile them."""
    if os.environ.get("TROOP_NATIVE_KERNELS") == "0":
        return None
    try:
        has = _features()
        if platform.machine() != "x86_64" or not has >= NEEDED:
            lack = "this processor lacks AVX-512 BF16"
        elif (compiler := _compiler()) is None:
            lack = "there is no C compiler: install gcc"
        else:
            return ctypes.CDLL(str(_build(compiler, has)))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or ""
        lack = f"they can't be compiled: {(output.strip() or str(error)).splitlines()[0]}"
    _log.info("no kernels in C: %s", lack)
    return None


@functools.cache
def ways() -> list[int]:
    """How this machine can multiply, the fastest last: 0 by AVX-512's dot products, 1 by AMX; none without kernels."""
    compiled = library()
    found = 0 if compiled is None else int(compiled.available_ways())
    return [way for way in (0, 1) if found >> way & 1]


@functools.cache
def function(name: str, argument: type[ctypes.Structure]) -> Callable[[Any], Any] | None:
    """A compiled function that takes the address of an `argument` and returns nothing; `None` where there is none."""
    compiled = library()
    if compiled is None:
        return None
    found = getattr(compiled, name)
    found.argtypes, found.restype = [ctypes.POINTER(argument)], None
    return found  # type: ignore[no-any-return]


def pool() -> Pool:
    """The threads that torch uses now."""
    return Pool(_runner(), torch.get_num_threads())


@functools.cache
def _runner() -> int | None:
    """The address of the function that runs a piece of C on all threads of torch's pool; `None`: on one thread."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(found.GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None


def _features() -> set[str]:
    """The processor's features, as Linux names them."""
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
    """The compiled library, from the user's cache if it is there."""
    flags = [f"-m{name.replace('avx512_bf16', 'avx512bf16').replace('_', '-')}" for name in sorted(NEEDED)]
    if has >= WANTED:
        flags += [f"-m{name.replace('_', '-')}" for name in sorted(WANTED)]
    argv = [*compiler, "-O3", "-std=gnu11", "-fPIC", "-shared", f"-I{HERE}", *flags]
    files = sorted([*HERE.rglob("*.c"), *HERE.rglob("*.h")])
    key = hashlib.sha256(repr(argv).encode())
    for file in files:
        key.update(file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troop" / "kernels"
    target = cache / f"kernels-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = tempfile.mkdtemp(prefix=".build", dir=cache)
    except OSError:  # a home that is not writable
        folder = tempfile.mkdtemp(prefix="troop-kernels")
        target = Path(folder) / target.name
    made = Path(folder) / "made.so"
    sources = [str(file) for file in files if file.suffix == ".c"]
    try:
        subprocess.run(
            [*argv, "-o", str(made), *sources, "-lm"], check=True, capture_output=True, text=True, timeout=300
        )
        made.replace(target)  # atomic
    finally:
        if target.parent != Path(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return target
