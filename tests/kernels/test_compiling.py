"""The harness itself: it must notice what it checks for, and the interpreter must not depend on the order of
imports.
"""

import subprocess
import sys

import pytest
import triton
import triton.language as tl

from tests.kernels.compiling import ROOT, Usage, check, table, usage
from tests.kernels.interpreting import DEVICE


@triton.jit
def _scale(x, out, factor, count, SIZE: tl.constexpr, KIND: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    values = tl.load(x + at, mask=at < count, other=0.0).to(tl.float32)
    total = tl.sum(values, axis=0)
    tl.store(out + at, (values * factor + total).to(KIND), mask=at < count)


@triton.jit
def _hungry(x, out, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    values = tl.load(x + at).to(tl.float32)
    tl.store(out + at, values - tl.max(values, axis=0))  # every value is held until the last is known


TYPES = {"x": "*fp16:16", "out": "*fp16:16", "factor": "fp32", "count": "i32:16"}


def test_what_a_small_kernel_needs():
    for found in check(_scale, TYPES, {"SIZE": 512, "KIND": tl.float16}, registers=40, shared=64, label="scale"):
        assert found.registers > 8
        assert found.shared >= 4 * found.warps  # the sum goes from warp to warp
        assert found.blocks == 16


def test_spills_are_seen():
    found = usage(_hungry, {"x": "*fp16:16", "out": "*fp16:16"}, {"SIZE": 16384}, architecture=80, warps=1)
    assert found.spill_stores > 100
    assert found.spill_loads > 100
    assert found.stack > 100


@pytest.mark.parametrize("bound", ["registers", "shared"])
def test_a_bound_that_is_too_low_fails(bound: str):
    bounds = {"registers": 255, "shared": 1 << 20} | {bound: 4}
    with pytest.raises(AssertionError, match=f"_scale for sm_80 takes .* {bound[:6]}"):
        check(_scale, TYPES, {"SIZE": 512, "KIND": tl.float16}, **bounds)


def test_a_missing_type_is_named():
    with pytest.raises(AssertionError, match="look at count"):
        usage(
            _scale, {"x": "*fp16", "out": "*fp16", "factor": "fp32"}, {"SIZE": 8, "KIND": tl.float16}, architecture=80
        )


def test_the_compilers_error_is_told():
    with pytest.raises(AssertionError, match="power of 2"):
        usage(_scale, TYPES, {"SIZE": 300, "KIND": tl.float16}, architecture=90)


def test_table():
    lines = table([Usage("a", 80, 4, 32, 0, 0, 0, 1024), Usage("longer", 90, 8, 255, 8, 4, 16, 99)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["longer", "sm_90", "8", "255", "8", "4", "16", "99", "1"]


PROGRAM = """
import os, torch, triton
import triton.language as tl
from tests.kernels.test_compiling import _scale
from tests.kernels.interpreting import interpret
assert interpret() and interpret()
from tests.kernels.test_compiling import _scale
x, out = torch.arange(6, dtype=torch.float32), torch.full((8,), torch.nan)
_scale[(1,)](x, out, 2.0, 6, SIZE=8, KIND=tl.float32)
assert out[:6].tolist() == [15, 17, 19, 21, 23, 25] and out[6:].isnan().all(), out
assert "TRITON_INTERPRET" not in os.environ
"""


@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU needs no interpreter")
def test_the_interpreter_does_not_depend_on_who_imported_first():
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True)
