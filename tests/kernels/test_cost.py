"""The cost rule: its decisions, the fit of its constants, and a real calibration of a tiny shape."""

import bisect
import itertools
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kernels.attention.reference import plain
from kernels.tree_attention.calibrate import Grid, measure
from kernels.tree_attention.cost import MeasuredCost, Sample, fit
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from kernels.tree_attention.reference import tree_attention
from kernels.tree_attention.worklist import WorkList

GPU = MeasuredCost(read=0.001, item=4.0, row=0.01, load=0.001, tile=0.0005, group=8, queries=64)
LONGEST = 1 << 20  # tokens


def two_levels(sequences: int, root: int, branch: int) -> tuple[list[Span], list[int]]:
    """`root` blocks that all share, `branch` more that each half shares, one of their own."""
    spans, shared = [], [0]
    for index in range(sequences):
        half = 2 * index // sequences
        table = [*range(root), *range(1000 * (half + 1), 1000 * (half + 1) + branch), 5000 + index]
        spans.append(Span(table, 1, len(table) * 16))
        shared.append(root + (branch if 2 * (index + 1) // sequences == half else 0))
    return spans, shared[:-1]


def read(items: list[Item]) -> int:
    return sum(item.end - item.begin for item in items)


def crossover(cost: MeasuredCost, sequences: int) -> int:
    """The shortest node, in tokens, that is worth an item above `sequences` sequences."""
    return bisect.bisect_left(range(LONGEST), True, key=lambda tokens: cost.keeps(sequences, tokens))


def test_short_trees_are_left_to_plain_paged_attention():
    spans, shared = two_levels(4, 2, 1)
    assert [len(item.blocks) for item in cut(spans, shared, 16, GPU)] == [4] * 4
    for sequences in (2, 16, 256):
        limit = crossover(GPU, sequences)
        assert not GPU.keeps(sequences, limit - 1)
        assert GPU.keeps(sequences, limit)
    assert crossover(GPU, 256) < crossover(GPU, 16) < crossover(GPU, 2)
    assert not GPU.keeps(1, LONGEST)


def test_long_trees_are_shared_at_every_level():
    spans, shared = two_levels(64, 512, 64)
    items = cut(spans, shared, 16, GPU)
    assert len(items) == 1 + 2 + 64
    assert read(items) == (512 + 2 * 64 + 64) * 16


def test_a_node_that_does_not_pay_is_merged_into_those_below_it():
    """A short root above long branches: the branches' items begin with the root's tokens."""
    spans, shared = two_levels(16, 2, 400)
    items = cut(spans, shared, 16, GPU)
    assert sorted(item.row_end - item.row_begin for item in items) == [1] * 16 + [8, 8]
    assert read(items) == (2 * 402 + 16) * 16


def test_siblings_are_weighed_together():
    """They are one launch on a CPU: four nodes that none would be worth it alone. Another level counts by itself."""
    spans, shared = [], [0]
    for index in range(8):
        spans.append(Span([*range(8), 100 + index // 2, 200 + index], 1, 10 * 16))
        shared.append(8 if index % 2 else 9)
    rule = CutCost(4 * 16)
    assert not rule.keeps(2, 16)
    assert rule.keeps(2, 16, siblings=4)
    nodes = [item for item in cut(spans, shared[:-1], 16, rule) if item.row_end - item.row_begin > 1]
    assert [len(item.blocks) for item in nodes] == [8, 1, 1, 1, 1]
    assert not cut(spans[:2], [0, 9], 16, CutCost(10 * 16))[0].row_end > 1
    alone = MeasuredCost(read=0.1, item=40, row=1, load=0.0, tile=0.0, group=2, queries=2)
    assert not alone.keeps(4, 64, siblings=8), "on a GPU all items are one launch anyhow"
    assert replace(alone, together=True).keeps(4, 64, siblings=8)


def test_padded_query_tiles_speak_against_items():
    """Nine rows of eight heads fill one tile of 64 and an eighth of a second: on a device that computes slowly an item
    for eight pays and one for nine doesn't.
    """
    slow = MeasuredCost(read=1.0, item=0.0, row=0.0, load=0.0, tile=5.0, group=8, queries=64)
    assert slow.keeps(8, 1000)
    assert not slow.keeps(9, 1000)
    assert slow.keeps(16, 1000)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_constants_are_found_again(noise: float):
    rng = random.Random(1)
    samples = []
    for sequences, tokens, shared in itertools.product((2, 6, 24, 96), (32, 160, 640, 2048), (True, False)):
        time = 20 + 0.05 * sequences
        time += GPU.shared(sequences, tokens) if shared else GPU.plain(sequences, tokens)
        samples.append(Sample(sequences, tokens, shared, time * 1e-6 * rng.uniform(1 - noise, 1 + noise)))
    found = fit(samples, GPU.group, GPU.queries)
    for sequences, tokens in itertools.product((4, 32, 256), (64, 512, 4096)):
        assert found.plain(sequences, tokens) == pytest.approx(GPU.plain(sequences, tokens), rel=1e-6 + 3 * noise)
        if not noise:
            assert found.shared(sequences, tokens) == pytest.approx(GPU.shared(sequences, tokens), rel=1e-4)
    assert crossover(found, 32) == pytest.approx(crossover(GPU, 32), rel=0.01 + 8 * noise)


def test_constants_are_never_negative():
    samples = [Sample(2, 100, True, 1e-3), Sample(2, 100, False, 2e-3), Sample(4, 100, True, 5e-4)]
    samples += [Sample(4, 100, False, 1e-4), Sample(8, 300, True, 9e-3), Sample(8, 300, False, 1e-5)]
    found = fit(samples, 1, 1)
    assert min(found.read, found.item, found.row, found.load, found.tile) >= 0


def test_a_real_calibration_on_the_processor(monkeypatch: pytest.MonkeyPatch):
    """What is timed is exact, and long prefixes above many sequences come out as worth it.

    The clock counts what was read, so that it gives the same result on every machine.
    """
    heads, checked, clock = Heads(4, 2, 32, 4), [], [0.0]
    monkeypatch.setattr("kernels.tree_attention.calibrate.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def prepare(items, rows):
        work = WorkList.of(items, rows, 16)

        def attend(query, keys, values):
            output, _ = tree_attention(query, keys, values, work, 0.2)
            clock[0] += sum(1e-6 + 1e-8 * item.end for item in items)
            if rows == 2 and not checked:
                item = next(item for item in items if item.row_end - item.row_begin == 2)
                own = next(item for item in items if item.row_begin == 0 and item.row_end == 1)
                slots = [b * 16 + t for i in (item, own) for b in i.blocks for t in range(16)]
                slots = slots[: item.end + own.end]
                expected, _ = plain(query[:1], keys[:, slots].transpose(0, 1), values[:, slots].transpose(0, 1), 0.2)
                torch.testing.assert_close(output[:1], expected, atol=1e-5, rtol=1e-5)
                checked.append(True)
            return output

        return attend

    device = torch.device("cpu")
    samples = measure(prepare, heads, torch.float32, device, grid=Grid((2, 12, 32), (64, 512, 1024), 2))
    assert checked
    assert len(samples) == 18
    found = fit(samples, heads.group, 1)
    assert found.keeps(32, 8192)
