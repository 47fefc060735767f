"""Tree attention and the merge, compiled for an A100 and an H100: nothing spills where heads are as wide as they are
commonly and numbers have 16 bits, and as many programs fit on a multiprocessor at once as the plan of a step counts on.
"""

import pytest

from kernels.lse_merge.triton import HEADS, PARTS, _merge
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import TileShape, Tiling
from kernels.tree_attention.triton import _tree_attention, constants
from tests.kernels.compiling import check, usage

POINTERS = dict.fromkeys(("count", "taken", "tiles", "blocks", "floors"), "*i32:16") | dict.fromkeys(
    ("partials", "lse"), "*fp32:16"
)
STRIDES = {"query_row": "i32:16", "query_head": "i32:16", "cache_head": "i64:16", "cache_slot": "i32:16"}

MERGE = {"partials": "*fp32:16", "lse": "*fp32:16", "starts": "*i32:16", "slots": "*i32:16", "output": "*bf16:16"}
MERGE["sinks"] = "*bf16:16"
MERGE |= {
    "taken": "*i32:16",
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
    """Large tiles, then small ones; of float32, which is for tests, a little may spill."""
    size = 4 if kind == "fp32" else 2
    spilled = 80 if size == 4 else 0  # bytes
    for shape in Tiling.of(Heads(group, 1, dim, size)).shapes:
        most = {"registers": 255 if shape.bare or size == 4 else 144, "spills": spilled, "stack": spilled}
        most["shared"] = 110 * 1024 if shape.bare or size == 4 else 40 * 1024
        compile_for(shape, Heads(4 * group, 4, dim, size), kind, most)


def compile_for(shape: TileShape, heads: Heads, kind: str, most: dict[str, int], **more: bool) -> None:
    """Hold a kernel to its bounds, and to the programs that a step's plan counts on: an A100 may have one less."""
    constant = {"query_dim": 1} | constants(shape, heads, 16, **more)
    label = " ".join(["tree_attention", kind, str(heads.dim), f"{shape.queries} queries", *more])
    sizes = {"warps": shape.warps, "stages": shape.stages, "label": label}
    for architecture, registers in ((80, None), (90, shape.registers)):
        sizes |= {"architectures": (architecture,), "maxnreg": registers}
        [found] = check(_tree_attention, signature(kind), constant, **sizes, **most)
        assert found.blocks >= max(1, shape.programs - (architecture == 80))


def test_the_pipeline_loads_keys_ahead():
    """Each stage more takes shared memory for more keys: without the numbers of blocks a step ahead, it took none."""
    small = Tiling.of(Heads(28, 4, 128, 2)).shapes[1]
    constant = {"query_dim": 1} | constants(small, Heads(28, 4, 128, 2), 16)
    sizes = {"architecture": 90, "warps": small.warps, "label": "tree_attention bf16 128 pipeline"}
    few, more = (usage(_tree_attention, signature("bf16"), constant, stages=stages, **sizes) for stages in (2, 3))
    assert more.shared - few.shared >= 2 * small.keys * 128 * 2  # keys and values


def test_the_wider_tiles_that_a_calibration_may_choose():
    first, wide = Tiling.candidates(Heads(28, 4, 128, 2))
    assert first == Tiling.of(Heads(28, 4, 128, 2))
    compile_for(wide.shapes[0], Heads(32, 4, 128, 2), "bf16", {"registers": 255, "shared": 110 * 1024})


@pytest.mark.parametrize(("dim", "shared"), [(576, 512), (288, 256)], ids=str)
def test_latent_keys(dim: int, shared: int):
    """GLM-4.7-Flash's and DeepSeek's, and MiniCPM 3's; with windows, too."""
    for shape in Tiling.of(Heads(20, 1, dim, 2, shared)).shapes:
        for floors in (False, True):
            most = {"registers": 255, "shared": 114 * 1024}
            compile_for(shape, Heads(20, 1, dim, 2, shared), "bf16", most, floors=floors)


def test_the_wider_tiles_of_latent_keys():
    """A little spills: a calibration says whether fewer loads are worth it."""
    first, wide = Tiling.candidates(Heads(128, 1, 576, 2, 512))
    assert first == Tiling.of(Heads(128, 1, 576, 2, 512))
    most = {"registers": 255, "spills": 480, "stack": 420, "shared": 150 * 1024}
    compile_for(wide.shapes[0], Heads(128, 1, 576, 2, 512), "bf16", most)


def test_numbers_of_32_bits_beside_latents():
    """As the gate computes them: a product of three spilled 7 KB of each thread."""
    heads = Heads(20, 1, 576, 4, 512)
    for shape in Tiling.of(heads).shapes:
        compile_for(shape, heads, "fp32", {"registers": 255, "shared": 99 * 1024})


@pytest.mark.parametrize(("dim", "shared"), [(256, 0), (576, 512)], ids=str)
def test_gpus_with_less_shared_memory(dim: int, shared: int):
    """Of an A10, L40S or RTX 4090 a program can have 99 KB: more is refused at its launch."""
    heads, memory = Heads(20, 1, dim, 2, shared), 100 << 10
    for tiling in Tiling.candidates(heads, memory):
        for shape in tiling.shapes:
            constant = {"query_dim": 1} | constants(shape, heads, 16, floors=True)
            sizes = {"architecture": 86, "warps": shape.warps, "stages": shape.stages}
            found = usage(_tree_attention, signature("bf16"), constant, label=f"tree_attention bf16 {dim}", **sizes)
            assert found.shared <= memory - 1024
            assert found.spill_stores == 0


def test_merge():
    constants = {"partial_dim": 1, "lse_head": 1, "DIM": 128, "WIDTH": 128, "HEADS": HEADS, "PARTS": PARTS}
    for sinks in (False, True):
        label = f"lse_merge bf16 128{' sinks' if sinks else ''}"
        check(_merge, MERGE, constants | {"SINKS": sinks, "TAKEN": True}, registers=80, shared=8192, label=label)


def test_windows_and_caps():
    """As Gemma 2 has them both."""
    for shape in Tiling.of(Heads(32, 4, 256, 2)).shapes:
        most = {"registers": 255, "spills": 64, "stack": 64, "shared": 110 * 1024}
        compile_for(shape, Heads(32, 4, 256, 2), "bf16", most, floors=True, capped=True)
