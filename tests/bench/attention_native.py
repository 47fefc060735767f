"""Tree attention by our kernels in C against torch's operations on the same work list, both in bfloat16."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from kernels.native import ways
from kernels.tree_attention import native
from kernels.tree_attention.cut import CutCost, cut
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.reference import tree_attention_output
from kernels.tree_attention.worklist import WorkList
from tests.bench.attention_cpu import BLOCK, COLD, Tree

CAPUCHIN, QWEN_1_5B = Heads(8, 4, 32, 2), Heads(12, 2, 128, 2)
NAMES = {0: "AVX-512", 1: "AMX"}
TOLERANCE = 3e-2  # of bfloat16's rounded weights


def grid(quick: bool) -> Iterator[Tree]:
    """One and two levels, 4 to 256 sequences, nodes of 64 to 2,048 tokens."""
    for heads in (CAPUCHIN,) if quick else (CAPUCHIN, QWEN_1_5B):
        for sequences in (16,) if quick else (1, 4, 16, 64, 256):
            for tokens in (64,) if quick else (64, 512, 2048):
                yield Tree(heads, sequences, ((1, tokens),))
        for groups, each in () if quick else ((4, 4), (32, 8)):
            yield Tree(heads, groups * each, ((1, 512), (groups, 256)))


def measure(tree: Tree, repeats: int) -> dict[str, float] | str:
    """Seconds of torch and of each way in C, medians of runs in turn; in words, which of them is wrong."""
    heads = tree.heads
    allocator, spans, shared = tree.place()
    caches = torch.randn(2, heads.kv, allocator.count * BLOCK, heads.dim).bfloat16()
    query, cold = torch.randn(tree.sequences, heads.query, heads.dim).bfloat16(), torch.zeros(COLD, dtype=torch.uint8)
    items = cut(spans, shared, BLOCK, CutCost())
    work = WorkList.of(items, len(spans), BLOCK, zone=allocator.zone, cache_blocks=allocator.count)
    works = {NAMES[way]: native.NativeWork.of(work, heads, way) for way in ways()}
    scale = heads.dim**-0.5
    with torch.inference_mode():
        expected = tree_attention_output(query.float(), caches[0].float(), caches[1].float(), work, scale)

        def run(name: str) -> torch.Tensor:
            if name == "torch":
                return tree_attention_output(query, caches[0], caches[1], work, scale)
            return works[name].attend(query, caches[0], caches[1], scale)

        seconds: dict[str, list[float]] = {name: [] for name in ("torch", *works)}
        for name in seconds:
            if not torch.allclose(run(name).float(), expected, atol=TOLERANCE, rtol=TOLERANCE):
                return f"{tree}: attention by {name} is wrong"
        for turn in range(repeats):
            order = list(seconds)
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                cold.add_(1)
                begin = time.perf_counter()
                run(name)
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in seconds.items()}


def compare(quick: bool) -> tuple[dict[str, Any], bool]:
    """The grid's figures, also printed; False where something is computed wrong. Empty where there are no kernels."""
    if not ways():
        print("\nNo kernels in C: this processor lacks AVX-512 BF16, or there is no compiler.")
        return {}, True
    rows: list[dict[str, Any]] = []
    print(f"\nOne layer in bfloat16, {torch.get_num_threads()} threads, by torch and by our kernels in C:")
    for tree in grid(quick):
        found = measure(tree, 3 if quick else 9)
        if isinstance(found, str):
            print(f"no figures: {found}")
            return {"wrong": found}, False
        base = found.pop("torch")
        ratios = {name: round(base / value, 2) for name, value in found.items()}
        said = ", ".join(f"{name} {found[name] * 1e6:.0f} us ({ratio:.2f}x)" for name, ratio in ratios.items())
        print(f"  {tree!s:58} torch {base * 1e6:9.0f} us   {said}")
        rows.append({"tree": str(tree), "torch_microseconds": round(base * 1e6), "torch_over": ratios})
    means = {name: statistics.geometric_mean(row["torch_over"][name] for row in rows) for name in rows[0]["torch_over"]}
    for name, mean in means.items():
        print(f"  torch takes {mean:.2f} times as long as {name} (geometric mean of {len(rows)})")
    least = {name: min(row["torch_over"][name] for row in rows) for name in means}
    return {"trees": rows, "geometric_mean": {k: round(v, 3) for k, v in means.items()}, "least": least}, True
