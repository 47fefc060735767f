"""Trees of decoding sequences, and what a step of attention over them must read and compute: counted, not measured."""

import time
from dataclasses import dataclass

import numpy as np

from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from kernels.tree_attention.plan import Tiling, plan

PROCESSORS = 132  # multiprocessors of an H100 SXM, for which steps are planned where there is no GPU
BLOCK = 16  # tokens
SHARE_ALL, SHARE_NONE = CutCost(0), CutCost(1 << 60)


@dataclass(frozen=True)
class Shape:
    """A tree whose nodes on one level are alike, in bfloat16."""

    name: str
    levels: tuple[tuple[int, int], ...]  # (nodes, tokens of each), root first; whole blocks
    sequences: int  # a multiple of each level's nodes
    suffix: int  # tokens of each sequence alone; 0: it ends with the last level, whose last token is its own
    heads: Heads

    @property
    def spans(self) -> list[Span]:
        """One decoding row per sequence."""
        first, tables = 0, [list[int]() for _ in range(self.sequences)]
        own = max(1, self.suffix)
        for nodes, tokens in (*self.levels, (self.sequences, own)):
            blocks = -(-tokens // BLOCK)
            for index in range(self.sequences):
                node = index * nodes // self.sequences
                tables[index].extend(range(first + node * blocks, first + (node + 1) * blocks))
            first += nodes * blocks
        length = sum(tokens for _, tokens in self.levels) + own
        return [Span(table, 1, length) for table in tables]

    @property
    def shared(self) -> list[int]:
        """Leading blocks that each sequence has in common with the one before."""
        found = [0]
        for index in range(1, self.sequences):
            blocks = 0
            for nodes, tokens in self.levels:
                if index * nodes // self.sequences != (index - 1) * nodes // self.sequences:
                    break
                blocks += tokens // BLOCK
            found.append(blocks)
        return found

    @property
    def distinct(self) -> int:
        """Tokens, each node's counted once."""
        return sum(nodes * tokens for nodes, tokens in self.levels) + self.sequences * max(1, self.suffix)

    @property
    def blocks(self) -> int:
        """Blocks of the cache."""
        own = -(-max(1, self.suffix) // BLOCK)
        return sum(nodes * tokens // BLOCK for nodes, tokens in self.levels) + self.sequences * own

    def items(self, rule: CutRule) -> list[Item]:
        """Work of one step."""
        return cut(self.spans, self.shared, BLOCK, rule, in_place=False)


MICRO = Heads(8, 1, 128, 2)  # of Hydragen's micro-benchmark
QWEN_1_5B, QWEN_7B = Heads(12, 2, 128, 2), Heads(28, 4, 128, 2)  # Qwen2.5-Coder
GLM_FLASH = Heads(20, 1, 576, 2, shared=512)  # GLM-4.7-Flash: latent attention


def shapes(quick: bool = False) -> list[Shape]:
    """Hydragen's micro-benchmark at three suffixes, and trees as Troop's runs have them."""
    found = []
    for batch, prefix in ((512, 1024), (1024, 2048), (2048, 4096), (4096, 8192)):
        for suffix in (0, 128, 512):
            found.append(Shape(f"{batch} over {prefix} + {suffix}", ((1, prefix),), batch, suffix, MICRO))
    for name, heads in (("1.5B", QWEN_1_5B), ("7B", QWEN_7B)):
        two = ((1, 16384), (16, 1024))
        three = ((1, 16384), (8, 2048), (64, 512))
        found.append(Shape(f"{name}: 256 over 16384, 16 x 1024", two, 256, 128, heads))
        found.append(Shape(f"{name}: 1024 over 16384, 8 x 2048, 64 x 512", three, 1024, 128, heads))
    found.insert(-2, Shape("GLM-4.7-Flash: 256 over 16384, 16 x 1024", ((1, 16384), (16, 1024)), 256, 128, GLM_FLASH))
    return [found[1], found[2], *found[-2:]] if quick else found


@dataclass(frozen=True)
class Counted:
    """One layer's attention of one step. Bytes to and from the GPU's memory; FLOPs of both products."""

    tiles: int  # programs, of all key-value heads
    longest: int  # tokens of the longest
    cache_bytes: int  # keys and values: each item's once, for query tiles side by side find them in the GPU's cache
    other_bytes: int  # queries, partial results written and read, output
    flops: int  # padding of tiles included
    plan_seconds: float  # cutting and planning on the host, best of three

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.cache_bytes + self.other_bytes


def count(shape: Shape, rule: CutRule, programs: int = Tiling().programs * PROCESSORS) -> Counted:
    """Count what a rule's work list costs, as planned for a GPU that runs so many programs at once."""
    heads, best = shape.heads, float("inf")
    spans, shared, tiling = shape.spans, shape.shared, Tiling.of(heads)
    for _ in range(3):
        begin = time.perf_counter()
        items = cut(spans, shared, BLOCK, rule, in_place=False)
        found = plan(items, shape.sequences, BLOCK, heads, tiling, programs)
        best = min(best, time.perf_counter() - begin)
    keys = found.tiles[:, 3] - found.tiles[:, 2]
    queries = np.where(found.tiles[:, 1] - found.tiles[:, 0] > tiling.small, tiling.large, tiling.small)
    return Counted(
        tiles=len(keys) * heads.kv,
        longest=int(keys.max()),
        cache_bytes=sum(item.end - item.begin for item in items) * token_bytes(heads),
        other_bytes=row_bytes(shape) + 2 * len(found.slots) * heads.query * (heads.value + 1) * 4,
        flops=2 * int((queries.astype(np.int64) * keys).sum()) * (heads.dim + heads.value) * heads.kv,
        plan_seconds=best,
    )


def token_bytes(heads: Heads) -> int:
    """Of one token's keys and values."""
    return heads.kv * heads.token * heads.item_bytes


def row_bytes(shape: Shape) -> int:
    """Of the queries and the output."""
    heads = shape.heads
    return shape.sequences * heads.query * (heads.dim + heads.value) * heads.item_bytes


def floor_bytes(shape: Shape) -> int:
    """What any kernel moves: every distinct token once, the queries and the output."""
    return shape.distinct * token_bytes(shape.heads) + row_bytes(shape)


def useful_flops(shape: Shape) -> int:
    """What any kernel computes: every query with every key of its sequence."""
    tokens = sum(span.length for span in shape.spans)
    return 2 * tokens * shape.heads.query * (shape.heads.dim + shape.heads.value)
