"""Which batches of decode steps get a graph of their own, and with how much room."""

import itertools
import types
from typing import Any

import numpy as np
import pytest
import torch

from engine.run import graphs
from engine.run.graphs import sizes
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.plan import Most, Tiling, plan


def test_sizes():
    assert sizes(1) == [1]
    assert sizes(8) == [1, 2, 4, 8]
    assert sizes(100) == [1, 2, 4, 8, 16, 32, 64, 80, 96, 100]
    assert sizes(300) == [1, 2, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 300]
    assert sizes(1024)[-9:] == [512, 576, 640, 704, 768, 832, 896, 960, 1024]
    for small, large in itertools.pairwise(sizes(1000)):
        assert large <= small * (2 if small < 64 else 1.25 if small < 256 else 1.125)


HOPPER = 132 * 2  # programs at once


@pytest.mark.parametrize("heads", [Heads(28, 4, 128, 2), Heads(32, 8, 128, 2), Heads(32, 32, 128, 2)], ids=str)
def test_no_step_of_a_small_batch_misses_its_graph(heads: Heads, monkeypatch: pytest.MonkeyPatch):
    """7B's heads, contexts of 0.5K to 16K, shared and not: all fit, and nothing is cut less for want of tiles."""
    monkeypatch.setattr("engine.run.graphs.resident_programs", lambda *_: HOPPER)
    decode: Any = object.__new__(graphs.DecodeSteps)
    tiling = Tiling.of(heads)
    backend = types.SimpleNamespace(heads=heads, tiling=tiling)
    decode._model = types.SimpleNamespace(backend=backend, device=torch.device("cpu"))
    decode._longest, decode._block_size = 32_768, 16
    for batch, context in itertools.product((1, 2, 3, 5, 8, 12, 16, 23, 32), (512, 1000, 2048, 4096, 7777, 16_384)):
        size = next(size for size in sizes(64) if size >= batch)
        room = decode._capacity(size)
        blocks = -(-context // 16)
        for common in (0, blocks // 2, blocks - 1):
            own = [range(first, first + blocks - common) for first in range(9999, 9999 + batch * blocks, blocks)]
            tables = [[*range(common), *tail] for tail in own]
            spans = [Span(table, 1, context) for table in tables]
            items = cut(spans, [0, *[common] * (batch - 1)], 16, CutCost(0), in_place=False)
            found = plan(items, batch, 16, heads, tiling, HOPPER, Most(room.tiles, room.partials))
            assert len(found.blocks) <= room.blocks
            freely = plan(items, batch, 16, heads, tiling, HOPPER, Most(partials=room.partials))
            assert np.array_equal(found.tiles, freely.tiles)
            if not common:
                assert len(found.tiles) == len(plan(items, batch, 16, heads, tiling, HOPPER).tiles)
