"""A cache of 8-bit floats: what is stored, and attention over it by every implementation, against the same numbers kept
in float32.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels.kv_store.triton
from kernels.kv_store.reference import LARGEST, Scales, copy_slots, rounded, store
from kernels.tree_attention import reference, triton
from kernels.tree_attention.cut import CutCost, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import Tiling
from kernels.tree_attention.reach import Reach
from kernels.tree_attention.triton import _tree_attention, constants
from kernels.tree_attention.worklist import WorkList
from tests.kernels.compiling import check
from tests.kernels.interpreting import COMPILED_HERE, DEVICE
from tests.kernels.test_tree_attention import grow
from tests.kernels.test_tree_attention_compiled import signature
from tests.kernels.test_tree_attention_reach import positions

pytestmark = pytest.mark.gpu

EIGHT = torch.float8_e4m3fn
ATTENTION: dict[str, tuple[Callable[..., Any], str, float]] = {
    "torch": (reference.tree_attention, "cpu", 0.0),
    "triton": (triton.tree_attention, DEVICE, 3e-5),  # cut into other tiles
}
STORES = {"torch": (store, "cpu"), "triton": (kernels.kv_store.triton.store, DEVICE)}


def representable() -> Tensor:
    """All finite numbers of 8 bits, `[254]` float32."""
    numbers = torch.arange(256, dtype=torch.uint8).view(EIGHT).float()
    return numbers[numbers.isfinite()]


@pytest.mark.parametrize("name", STORES)
def test_what_is_stored(name: str):
    """The nearest number, the largest where it would be larger; the same on every device. Of two, Triton's interpreter
    takes another than a GPU, so there are none.
    """
    put, device = STORES[name]
    exact = representable()
    between = exact[1:] * 0.4 + exact[:-1] * 0.6
    given = torch.cat([exact, between, torch.tensor([449.0, -1e6, 464.0, 1e30, 1e-9, -0.0])]).repeat(2)[:1024]
    key = torch.nn.functional.pad(given, (0, 1024 - len(given))).view(2, 32, 16)
    caches = torch.zeros(2, 2, 40, 16, dtype=EIGHT)
    slots = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:32]
    on = caches.to(device)
    put(key.to(device), (key / 4).to(device), on[0], on[1], slots.to(device), Scales(1.0, 0.25))
    expected = key.clamp(-LARGEST, LARGEST).to(EIGHT).float()
    assert torch.equal(expected.abs().amax(), torch.tensor(LARGEST))
    for cache in on.cpu():
        assert torch.equal(cache[:, slots].float(), expected)
        left = torch.tensor(sorted(set(range(40)) - set(slots.tolist())))
        assert not cache[:, left].float().any()
    assert torch.equal(rounded(exact, EIGHT, 1.0).float(), exact)


def test_slots_are_copied_bit_by_bit():
    cache = torch.randn(2, 2, 2, 8, 16).to(EIGHT)
    before = cache.float()
    copy_slots(cache, torch.tensor([1, 5]), torch.tensor([7, 0]))
    assert torch.equal(cache[..., [7, 0], :].float(), before[..., [1, 5], :])
    assert torch.equal(cache[..., 1:7, :].float(), before[..., 1:7, :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_reads_the_rounded_numbers(name: str, dtype: torch.dtype):
    """Over several levels with chunks and a window, caps and sinks: as over the same numbers in the queries' dtype."""
    attend, device, tolerance = ATTENTION[name]
    generator = torch.Generator().manual_seed(0)
    tree = grow(2, 3, 8, seed=3, chunk=5)
    rows = positions(tree)
    caches = (torch.randn(2, 2, tree.blocks * 8, 32, generator=generator) * 3).to(EIGHT)
    query = torch.randn(6, len(rows), 32, generator=generator).to(dtype).transpose(0, 1)
    query, eight = query.to(device), caches.to(device)
    for floors, more in ((None, {}), (Reach(window=9).floors(rows), {"cap": 5.0, "sinks": torch.ones(6)})):
        more = {key: each.to(device) if isinstance(each, Tensor) else each for key, each in more.items()}
        items = cut(tree.spans, tree.shared, 8, CutCost(0))
        works = [WorkList.of(items, len(rows), 8, device, floors=floors) for _ in range(2)]
        found = attend(query, *eight, works[0], 0.2, **more)
        expected = attend(query, *eight.to(dtype), works[1], 0.2, **more)
        for ours, right in zip(found, expected, strict=True):
            assert ours.dtype == right.dtype
            allowed = tolerance if dtype == torch.float32 else 30 * tolerance
            assert (ours.float() - right.float()).abs().amax() <= allowed


@COMPILED_HERE
@pytest.mark.parametrize(("dim", "group", "shared"), [(128, 7, 0), (256, 8, 0), (576, 20, 512)])
def test_compiled_for_an_h100(dim: int, group: int, shared: int):
    """As many programs fit at once as over 16-bit numbers, and nothing spills. An A100 has no such numbers."""
    eight = dict.fromkeys(("key_cache", "value_cache"), "*fp8e4nv:16")
    for shape in Tiling.of(Heads(group, 1, dim, 1, shared)).shapes:
        constant = {"query_dim": 1} | constants(shape, Heads(4 * group, 4, dim, 1, shared), 16)
        label = f"tree_attention fp8 {dim} {shape.queries} queries"
        sizes = {"warps": shape.warps, "stages": shape.stages, "maxnreg": shape.registers, "architectures": (90,)}
        most = {"registers": 255, "shared": 110 * 1024}
        found = check(_tree_attention, signature("bf16") | eight, constant, label=label, **sizes, **most)
        assert found[0].blocks >= shape.programs
