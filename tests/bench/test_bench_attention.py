"""The counts behind the figures of tree attention, by hand; and the benchmark itself where there is no GPU."""

import json
from pathlib import Path

import pytest

from kernels.native import ways
from kernels.tree_attention import native
from kernels.tree_attention.cut import CutCost, cut
from kernels.tree_attention.heads import Heads
from tests.bench import attention_cpu, attention_native, bench_attention
from tests.bench.attention_trees import (
    SHARE_ALL,
    SHARE_NONE,
    Shape,
    count,
    floor_bytes,
    shapes,
    token_bytes,
    useful_flops,
)

TREE = Shape("by hand", ((1, 64), (2, 32)), 4, 16, Heads(4, 2, 32, 2))


def test_counts_by_hand():
    """Four sequences of 64 + 32 + 16 tokens over one root and two branches."""
    assert token_bytes(TREE.heads) == 2 * 2 * 32 * 2
    assert TREE.distinct == 64 + 2 * 32 + 4 * 16
    assert floor_bytes(TREE) == 192 * 256 + 2 * 4 * 4 * 32 * 2
    assert useful_flops(TREE) == 4 * (4 * 112) * 4 * 32
    ours, alone = count(TREE, SHARE_ALL, 1), count(TREE, SHARE_NONE, 1)
    assert ours.cache_bytes == 192 * 256
    assert alone.cache_bytes == 4 * 112 * 256
    assert ours.tiles == (1 + 2 + 4) * 2
    assert ours.other_bytes == 2 * 4 * 4 * 32 * 2 + 2 * (4 + 4 + 4) * 4 * 33 * 4
    assert ours.flops == 4 * 16 * (64 + 2 * 32 + 4 * 16) * 32 * 2  # seven tiles of 16 queries, padded


@pytest.mark.parametrize("shape", [TREE, *shapes(quick=True)], ids=lambda shape: shape.name)
def test_trees_are_what_their_names_say(shape: Shape):
    spans, shared = shape.spans, shape.shared
    assert len({block for span in spans for block in span.table}) == shape.blocks
    for index in range(1, len(spans), 37):
        one, other, common = spans[index - 1].table, spans[index].table, shared[index]
        assert one[:common] == other[:common]
        assert one[common] != other[common]
    assert sum(item.end - item.begin for item in shape.items(SHARE_ALL)) == shape.distinct


def test_sharing_reads_little_more_than_the_floor():
    for shape in shapes():
        if shape.sequences <= 1024:
            ours, alone = count(shape, SHARE_ALL), count(shape, SHARE_NONE)
            assert ours.cache_bytes <= floor_bytes(shape)
            assert alone.cache_bytes > 2 * ours.cache_bytes
            assert useful_flops(shape) <= ours.flops <= 1.5 * useful_flops(shape)
            assert ours.flops < alone.flops


def test_the_benchmark_runs(tmp_path: Path):
    file = tmp_path / "attention.json"
    assert bench_attention.main(["--quick", "--no-compile", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert {row["shape"] for row in figures["counted"]} == {s.name for s in shapes(quick=True)}
    assert [row["tree"] for row in figures["cpu"]["trees"]] == [str(tree) for tree in attention_cpu.grid(quick=True)]
    compared = [str(tree) for tree in attention_native.grid(quick=True)]
    assert [row["tree"] for row in figures["native"].get("trees", [])] == (compared if ways() else [])


@pytest.mark.skipif(not ways(), reason="this processor lacks AVX-512 BF16, or no compiler")
def test_no_figure_of_a_kernel_in_c_that_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    right = native.NativeWork.attend
    monkeypatch.setattr("kernels.tree_attention.native.NativeWork.attend", lambda *args: right(*args) + 0.1)
    _, agrees = attention_native.compare(quick=True)
    assert not agrees
    assert "is wrong" in capsys.readouterr().out


def test_no_figure_of_the_cpu_while_its_attention_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    right = attention_cpu.tree_attention_output
    monkeypatch.setattr("tests.bench.attention_cpu.tree_attention_output", lambda *args: right(*args) + 0.01)
    assert bench_attention.main(["--quick", "--no-compile"]) == 1
    printed = capsys.readouterr().out
    assert "no figures: 8/4 x 32" in printed
    assert "the rule (geometric mean" not in printed


@pytest.mark.parametrize("sequences", [4, 16, 64])
def test_trees_of_the_cpu_are_what_their_names_say(sequences: int):
    for tree in attention_cpu.grid(quick=False):
        if tree.heads is not attention_cpu.CAPUCHIN or tree.sequences != sequences:
            continue
        _, spans, shared = tree.place()
        items = cut(spans, shared, 16, CutCost(0), in_place=False)
        tokens = sum(item.end - item.begin for item in items)
        assert tokens == sum(nodes * length for nodes, length in tree.levels) + tree.sequences * attention_cpu.OWN
