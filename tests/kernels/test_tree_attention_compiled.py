"""Tree attention and the merge, compiled for an A100 and an H100: nothing spills where heads are as wide as they are
commonly and numbers have 16 bits, and as many programs fit on a multiprocessor at once as the plan of a step counts on.
"""

import pytest

from kernels.lse_merge.triton import HEADS, PARTS, _merge
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import Tiling
from kernels.tree_attention.triton import _tree_attention, constants
from tests.kernels.compiling import check

POINTERS = dict.fromkeys(("count", "tiles", "blocks", "floors"), "*i32:16") | dict.fromkeys(
    ("partials", "lse"), "*fp32:16"
)
STRIDES = {"query_row": "i32:16", "query_head": "i32:16", "cache_head": "i64:16", "cache_slot": "i32:16"}

MERGE = {"partials": "*fp32:16", "lse": "*fp32:16", "starts": "*i32:16", "slots": "*i32:16", "output": "*bf16:16"}
MERGE["sinks"] = "*bf16:16"
MERGE |= {
    "level": "*fp32:16",
    "heads": "i32:16",
    "partial_slot": "i32:16",
    "partial_head": "i32:16",
    "lse_slot": "i32:16",
}


def signature(kind: str) -> dict[str, str]:
    caches = dict.fromkeys(("query", "key_cache", "value_cache"), f"*{kind}:16")
    return POINTERS | STRIDES | caches | {"factor": "fp32", "cap": "fp32"}


@pytest.mark.parametrize(
    ("dim", "kind", "group"),
    [(80, "fp16", 1), (128, "bf16", 7), (256, "bf16", 8), (128, "fp32", 4), (256, "fp32", 4)],
    ids=str,
)
def test_tree_attention(dim: int, kind: str, group: int):
    size = 4 if kind == "fp32" else 2
    tiling = Tiling.of(dim, size)
    # Bytes. Float32 is for tests, not for speed; Triton 3.6 is the worse there, 3.9 at heads of 256.
    spilled = 80 if size == 4 else 32 if dim > 128 else 0
    for found in check(
        _tree_attention,
        signature(kind),
        {"query_dim": 1} | constants(tiling, Heads(4 * group, 4, dim, size), 16),
        registers=255,
        spills=spilled,
        stack=spilled,
        shared=163 * 1024 if size == 4 else 110 * 1024,
        warps=tiling.warps,
        stages=tiling.stages,
        label=f"tree_attention {kind} {dim}",
    ):
        assert found.blocks == tiling.programs


def test_the_wider_tiles_that_a_calibration_may_choose():
    first, wide = Tiling.candidates(128, 2)
    assert first == Tiling.of(128, 2)
    constant = {"query_dim": 1} | constants(wide, Heads(32, 4, 128, 2), 16)
    sizes = {"registers": 255, "shared": 110 * 1024, "warps": wide.warps, "stages": wide.stages}
    for found in check(_tree_attention, signature("bf16"), constant, label="tree_attention bf16 128 wide", **sizes):
        assert found.blocks == wide.programs


def test_merge():
    constants = {"partial_dim": 1, "lse_head": 1, "DIM": 128, "WIDTH": 128, "HEADS": HEADS, "PARTS": PARTS}
    for sinks in (False, True):
        label = f"lse_merge bf16 128{' sinks' if sinks else ''}"
        check(_merge, MERGE, constants | {"SINKS": sinks}, registers=80, shared=8192, label=label)


def test_windows_and_caps():
    """As Gemma 2 has them both."""
    tiling = Tiling.of(256, 2)
    constant = {"query_dim": 1} | constants(tiling, Heads(32, 4, 256, 2), 16, floors=True, capped=True)
    limits = {"registers": 255, "spills": 64, "stack": 64, "shared": 110 * 1024}
    sizes = {"warps": tiling.warps, "stages": tiling.stages}
    for found in check(
        _tree_attention, signature("bf16"), constant, label="tree_attention bf16 256 window cap", **sizes, **limits
    ):
        assert found.blocks == tiling.programs
