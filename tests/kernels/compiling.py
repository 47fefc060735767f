"""Compiles Triton kernels for GPUs that are not there, and says what the code needs: registers, spills, shared memory.

A child process compiles, since triton's own library can only be compiled where it was imported for it, and this process
may be Triton's interpreter (`tests.kernels.interpreting`). One child serves the whole session.

    check(_kernel, {"x": "*bf16:16", "row": "i32:16", "eps": "fp32"}, {"SIZE": 1024}, registers=64, shared=0)

Types are those of `triton.tools.compile`: `*` for a pointer, `:16` where the value is divisible by 16, as every
tensor's address and most strides are on a GPU; the compiler vectorises on it. An argument that is `None` or equal to 1
at run time is a constant to the compiler, so it belongs among the constants.
"""

import atexit
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90)  # A100, H100
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Usage:
    """What one kernel, compiled for one architecture, takes. Bytes but for the registers."""

    kernel: str
    architecture: int
    warps: int
    registers: int  # of one thread
    spill_stores: int
    spill_loads: int
    stack: int  # of one thread
    shared: int  # of one block of threads

    @property
    def blocks(self) -> int:
        """How many blocks of threads fit on one multiprocessor at once, by registers and shared memory."""
        held = -(-self.registers // 8) * 8 * 32 * self.warps
        memory = {80: 164, 86: 100, 90: 228}[self.architecture] * 1024
        return min(65536 // held, 64 // self.warps, 32, memory // (self.shared + 1024))


@dataclass(frozen=True)
class Failure:
    """The compiler's words."""

    error: str


compiled: dict[str, Usage] = {}  # everything of this process, by its label, for the table


def usage(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any] | None = None,
    *,
    architecture: int,
    warps: int = 4,
    stages: int = 3,
    maxnreg: int | None = None,
    label: str = "",
) -> Usage:
    """Compile a kernel and say what it needs.

    Args:
        kernel: what `@triton.jit` made of a function at the top level of a module.
        signature: types of the arguments that are not constants, in any order.
        constants: values of the others: numbers, strings, booleans, `None`, `triton.language` types.
        architecture: compute capability, 80, 86 or 90.
        warps, stages, maxnreg: of the launch.
        label: name in the table; default: the function's.

    Raises:
        AssertionError: it does not compile, with the compiler's error.
    """
    function = kernel.fn
    job = {
        "module": function.__module__,
        "function": function.__name__,
        "signature": signature,
        "constants": {name: _encode(value) for name, value in (constants or {}).items()},
        "architecture": architecture,
        "warps": warps,
        "stages": stages,
        "maxnreg": maxnreg,
    }
    answer = _child().ask(job)
    assert "error" not in answer, f"{function.__name__} does not compile for sm_{architecture}:\n{answer['error']}"
    found = Usage(**(answer | {"kernel": label or function.__name__}))
    compiled[f"{found.kernel} sm_{architecture}"] = found
    return found


def check(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any] | None = None,
    *,
    registers: int,
    shared: int,
    spills: int = 0,
    stack: int = 0,
    architectures: tuple[int, ...] = ARCHITECTURES,
    **launch: Any,
) -> list[Usage]:
    """Compile for every architecture, print the table, and hold the kernel to its bounds. See `usage`.

    Args:
        registers: of one thread, at most.
        shared: bytes of a block of threads, at most.
        spills: bytes stored to or loaded from local memory because registers ran out, at most.
        stack: bytes of one thread, at most.
        launch: its `warps`, `stages` and `maxnreg`, and the `label`.

    Raises:
        AssertionError: it does not compile, or takes more.
    """
    found = [usage(kernel, signature, constants, architecture=each, **launch) for each in architectures]
    print(table(found))
    for each in found:
        where = f"{each.kernel} for sm_{each.architecture}"
        assert each.registers <= registers, f"{where} takes {each.registers} registers, more than {registers}"
        assert each.shared <= shared, f"{where} takes {each.shared} bytes of shared memory, more than {shared}"
        spilt = max(each.spill_stores, each.spill_loads)
        assert spilt <= spills, f"{where} spills {spilt} bytes, more than {spills}"
        assert each.stack <= stack, f"{where} takes {each.stack} bytes of stack, more than {stack}"
    return found


def table(found: list[Usage]) -> str:
    """One line a kernel and architecture."""
    lines = [("kernel", "target", "warps", "registers", "spill stores", "spill loads", "stack", "shared", "blocks/SM")]
    for each in found:
        numbers = (each.warps, each.registers, each.spill_stores, each.spill_loads, each.stack, each.shared)
        lines.append((each.kernel, f"sm_{each.architecture}", *(str(n) for n in (*numbers, each.blocks))))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"dtype": value.name}  # of triton.language


class _Child:
    """The compiling process: a job a line in, an answer a line out."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.kernels.compiling import _serve; _serve()"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the compiling process died, see its standard error"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


_children: list[_Child] = []


def _child() -> _Child:
    if not _children:
        _children.append(_Child())
    return _children[0]


# -- the child -------------------------------------------------------------------------------------------------------


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")  # ours alone: what a compiler prints to standard output must not get into it
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = asdict(_compile(json.loads(line)))
        except Exception as error:
            answer = asdict(Failure(f"{type(error).__name__}: {error}"))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _compile(job: dict[str, Any]) -> Usage:
    import importlib
    import re
    import tempfile

    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas

    function = getattr(importlib.import_module(job["module"]), job["function"])
    constants = {
        name: tl.dtype(value["dtype"]) if isinstance(value, dict) else value for name, value in job["constants"].items()
    }
    names = set(job["signature"]) | set(constants)
    if names != set(function.arg_names) or len(names) != len(job["signature"]) + len(constants):
        odd = sorted(names ^ set(function.arg_names)) or sorted(set(job["signature"]) & set(constants))
        raise ValueError(f"types and constants must cover each argument once; look at {', '.join(odd)}")
    signature, attributes = {}, {}
    for place, name in enumerate(function.arg_names):
        kind, _, multiple = job["signature"].get(name, "constexpr").partition(":")
        signature[name] = kind
        if multiple:
            attributes[(place,)] = [["tt.divisibility", int(multiple)]]
    source = triton.compiler.ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    architecture = job["architecture"]
    target = GPUTarget("cuda", architecture, 32)
    options = {"num_warps": job["warps"], "num_stages": job["stages"], "enable_fp_fusion": True}
    options |= {"maxnreg": job["maxnreg"]} if job["maxnreg"] else {}
    kernel = triton.compile(source, target=target, options=options)
    with tempfile.TemporaryDirectory() as folder:  # again, for its words, which triton's cache does not keep
        file = Path(folder) / "kernel.ptx"
        file.write_text(kernel.asm["ptx"])
        name = f"sm_{architecture}{'a' if architecture >= 90 else ''}"
        argv = [get_ptxas(architecture).path, "-v", "--regAllocOptLevel=2", f"--gpu-name={name}", str(file), "-o"]
        said = subprocess.run(
            [*argv, str(file.with_suffix(".cubin"))], check=True, capture_output=True, text=True
        ).stderr

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        if found is None:
            raise ValueError(f"ptxas does not say {pattern!r}:\n{said}")
        return int(found[1])

    return Usage(
        kernel=job["function"],
        architecture=architecture,
        warps=job["warps"],
        registers=number(r"Used (\d+) registers"),
        spill_stores=number(r"(\d+) bytes spill stores"),
        spill_loads=number(r"(\d+) bytes spill loads"),
        stack=number(r"(\d+) bytes stack frame"),
        shared=kernel.metadata.shared,
    )
