"""The cost rule of the CPU against its alternatives, over a grid of trees: one layer's attention of a decode step."""

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from engine.cache.blocks import BlockAllocator
from engine.schedule.tree_order import common_prefix
from kernels.attention.reference import plain
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.reference import tree_attention_output
from kernels.tree_attention.worklist import WorkList

BLOCK = 16  # tokens
OWN = 40  # tokens of each sequence alone
MOST = 1 << 18  # tokens read without sharing: beyond, sharing wins anyhow, and its rivals would take minutes
LAYERS = 3  # caches in turn
COLD = 16 << 20  # bytes written between two runs: in a model, the processor's caches are full of something else
CAPUCHIN, QWEN_1_5B = Heads(8, 4, 32, 4), Heads(12, 2, 128, 4)


class Wide(NamedTuple):
    """Shares what at least `least` sequences share: one level of a tree, or two."""

    least: int

    def keeps(self, sequences: int, tokens: int, siblings: int = 1) -> bool:
        """See `CutRule`."""
        return sequences >= self.least


@dataclass(frozen=True)
class Tree:
    """Levels of alike nodes, root first, as (nodes, tokens of each); every sequence has `OWN` tokens behind them."""

    heads: Heads
    sequences: int
    levels: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        nodes = ", ".join(f"{count} x {tokens}" for count, tokens in self.levels)
        return f"{self.heads.query}/{self.heads.kv} x {self.heads.dim}: {self.sequences} over {nodes}"

    @property
    def rules(self) -> dict[str, CutRule]:
        """The default rule, and what else could be done: share every node, none, or only the first levels."""
        found: dict[str, CutRule] = {"rule": CutCost(), "all": CutCost(0), "none": CutCost(1 << 60)}
        for depth, (nodes, _) in enumerate(self.levels[:-1], start=1):
            found[f"first {depth}"] = Wide(self.sequences // nodes)
        return found

    def place(self) -> tuple[BlockAllocator, list[Span], list[int]]:
        """Blocks as the engine gives them out, spans in tree order, and what neighbours share."""
        longest = sum(nodes * tokens for nodes, tokens in self.levels) // BLOCK
        allocator = BlockAllocator(max(16384, 2 * longest) + 64 * (self.sequences + 64))
        tables = [list[int]() for _ in range(self.sequences)]
        for depth, (nodes, tokens) in enumerate((*self.levels, (self.sequences, OWN))):
            blocks = -(-tokens // BLOCK)
            for node in range(nodes):
                placed = (allocator.open_zone(blocks) if depth else None) or allocator.allocate(blocks)
                for index in range(node * self.sequences // nodes, (node + 1) * self.sequences // nodes):
                    tables[index] = tables[index] + placed
        tables.sort()
        shared = [0] + [common_prefix(one, other) for one, other in itertools.pairwise(tables)]
        length = sum(tokens for _, tokens in self.levels) + OWN
        return allocator, [Span(table, 1, length) for table in tables], shared


def grid(quick: bool) -> Iterator[Tree]:
    """One to three levels, 4 to 256 sequences, nodes of 16 to 4,096 tokens."""
    for heads in (CAPUCHIN,) if quick else (CAPUCHIN, QWEN_1_5B):
        for sequences in (16,) if quick else (4, 16, 64, 256):
            for tokens in (64,) if quick else (16, 64, 256, 1024, 4096):
                yield Tree(heads, sequences, ((1, tokens),))
        for groups, each in ((4, 4),) if quick else ((2, 2), (4, 4), (8, 8), (32, 2), (32, 8)):
            for tokens in (32,) if quick else (16, 64, 256, 1024):
                yield Tree(heads, groups * each, ((1, 512), (groups, tokens)))
        for sequences in () if quick else (16, 64, 128):
            for tokens in (16, 64, 256):
                yield Tree(heads, sequences, ((1, 512), (4, tokens), (8, tokens)))


def measure(tree: Tree, repeats: int) -> dict[str, float] | str:
    """Seconds of each way, medians of runs in turn (the rule's, where a way comes to the same items); or, in words, who
    computes something else than the definition.
    """
    heads = tree.heads
    allocator, spans, shared = tree.place()
    caches = torch.randn(2, heads.kv, allocator.count * BLOCK, heads.dim)
    cold = torch.zeros(COLD, dtype=torch.uint8)
    query = torch.randn(tree.sequences, heads.query, heads.dim)
    scale = heads.dim**-0.5
    works, cuts = {}, {name: cut(spans, shared, BLOCK, rule) for name, rule in tree.rules.items()}
    for name, items in cuts.items():
        if name != "rule" and items == cuts["rule"]:  # what is the same is not timed twice
            continue
        works[name] = WorkList.of(items, len(spans), BLOCK, zone=allocator.zone, cache_blocks=allocator.count)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for name, work in works.items():
            found = tree_attention_output(query, caches[0], caches[1], work, scale)
            for row in (0, len(spans) - 1):
                at = (torch.tensor(spans[row].table)[:, None] * BLOCK + torch.arange(BLOCK)).reshape(-1)
                key, value = (cache[:, at[: spans[row].length]].transpose(0, 1) for cache in caches)
                expected, _ = plain(query[row : row + 1], key, value, scale)
                if not torch.allclose(found[row], expected[0], atol=1e-4, rtol=1e-4):
                    return f"{tree}: sharing by `{name}` is wrong in row {row}"
        for turn in range(repeats):
            order = list(works.items())
            for name, work in order[turn % len(order) :] + order[: turn % len(order)]:
                cold.add_(1)
                begin = time.perf_counter()
                tree_attention_output(query, caches[0], caches[1], work, scale)
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {name: medians.get(name, medians["rule"]) for name in cuts}


def compare(quick: bool, repeats: int | None = None) -> tuple[dict[str, Any], bool]:
    """The grid's figures, also printed; False where something is computed wrong: there are no ratios then."""
    rows: list[dict[str, Any]] = []
    print(f"\nOne layer on this CPU, {torch.get_num_threads()} threads, by the default rule and otherwise:")
    for tree in grid(quick):
        if tree.sequences * sum(tokens for _, tokens in tree.levels) > MOST:
            continue
        found = measure(tree, repeats or (3 if quick else 11))
        if isinstance(found, str):
            print(f"no figures: {found}")
            return {"wrong": found}, False
        rule = found.pop("rule")
        name = min(found, key=lambda each: found[each])
        ratio = found[name] / rule
        others = ", ".join(f"{each} {value / rule:.2f}x" for each, value in found.items())
        print(f"  {tree!s:58} {rule * 1e6:9.0f} us   {others}")
        row: dict[str, Any] = {"tree": str(tree), "microseconds": round(rule * 1e6), "best_other": name}
        rows.append(row | {"best_other_over_rule": round(ratio, 2)})
    ratios = [row["best_other_over_rule"] for row in rows]
    mean = statistics.geometric_mean(ratios)
    print(f"  the best of the others takes {mean:.2f} times as long as the rule (geometric mean of {len(ratios)})")
    figures = {
        "threads": torch.get_num_threads(),
        "trees": rows,
        "geometric_mean": round(mean, 3),
        "least": min(ratios),
    }
    return figures, True
