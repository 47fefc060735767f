"""Tree attention: bytes and FLOPs counted against the floor, and times on the CPU. Times on a GPU: `bench_gpu`.

    python -m tests.bench.bench_attention [--quick] [--json FILE]

What one layer's attention of one decode step moves and computes over the trees of `attention_trees`, with sharing and
as plain paged decode, as ratios to the floor (every distinct token read once; no padding); registers, spills and shared
memory of the kernels as compiled for sm_80 and sm_90; times of the CPU's path over a grid of trees, by the cost rule
against sharing all nodes, none, or the first levels only (`attention_cpu`); and of our kernels in C against torch on
the same list (`attention_native`). No ratio of times is printed unless ours agrees with the reference first.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from tests.bench import attention_native
from tests.bench.attention_cpu import compare
from tests.bench.attention_trees import SHARE_ALL, SHARE_NONE, Shape, count, floor_bytes, shapes, useful_flops

COMPILED = ((32, "bf16"), (64, "bf16"), (80, "fp16"), (96, "bf16"), (128, "bf16"), (256, "bf16"), (128, "fp32"))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_attention", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four trees, one head dimension")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled artefacts out")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(argv)


def counted(shape: Shape) -> dict[str, Any]:
    """Figures of one tree that need no GPU."""
    ours, alone = count(shape, SHARE_ALL), count(shape, SHARE_NONE)
    floor, flops = floor_bytes(shape), useful_flops(shape)
    return {
        "shape": shape.name,
        "heads": f"{shape.heads.query}/{shape.heads.kv} x {shape.heads.dim}",
        "floor_megabytes": round(floor / 1e6, 2),
        "ours_over_floor_bytes": round(ours.bytes / floor, 3),
        "cache_over_floor_bytes": round(ours.cache_bytes / floor, 3),
        "plain_over_ours_bytes": round(alone.bytes / ours.bytes, 2),
        "floor_gigaflops": round(flops / 1e9, 2),
        "ours_over_floor_flops": round(ours.flops / flops, 3),
        "plain_over_floor_flops": round(alone.flops / flops, 3),
        "programs": ours.tiles,
        "plan_milliseconds": round(ours.plan_seconds * 1e3, 2),
    }


def print_counted(rows: list[dict[str, Any]]) -> None:
    header = ("tree", "heads", "floor MB", "ours/floor", "plain/ours", "GFLOP", "ours/floor", "plain/floor", "programs")
    print(f"{header[0]:46}" + "".join(f"{name:>13}" for name in header[1:]))
    keys = ("heads", "floor_megabytes", "ours_over_floor_bytes", "plain_over_ours_bytes", "floor_gigaflops")
    keys = (*keys, "ours_over_floor_flops", "plain_over_floor_flops", "programs")
    for row in rows:
        print(f"{row['shape']:46}" + "".join(f"{row[key]:>13}" for key in keys))


def compiled(quick: bool) -> list[dict[str, Any]]:
    """What the kernels take, as compiled; also printed."""
    from dataclasses import asdict

    from kernels.lse_merge.triton import HEADS, PARTS, _merge
    from kernels.tree_attention.heads import Heads
    from kernels.tree_attention.plan import Tiling
    from kernels.tree_attention.triton import _tree_attention, constants
    from tests.kernels.compiling import ARCHITECTURES, table, usage
    from tests.kernels.test_tree_attention_compiled import MERGE, signature

    found = []
    for dim, kind in ((128, "bf16"),) if quick else COMPILED:
        for shape in Tiling.of(Heads(32, 4, dim, 4 if kind == "fp32" else 2)).shapes:
            fixed = {"query_dim": 1} | constants(shape, Heads(32, 4, dim, 2), 16)
            label = f"tree_attention {kind} {dim} {shape.queries} queries"
            for each in ARCHITECTURES:
                sizes: dict[str, Any] = {"architecture": each, "warps": shape.warps, "stages": shape.stages}
                found.append(usage(_tree_attention, signature(kind), fixed, label=label, **sizes))
    merge = {"partial_dim": 1, "lse_head": 1, "DIM": 128, "WIDTH": 128, "HEADS": HEADS, "PARTS": PARTS, "SINKS": False}
    merge["TAKEN"] = True
    found += [usage(_merge, MERGE, merge, architecture=each, label="lse_merge bf16 128") for each in ARCHITECTURES]
    print(table(found))
    return [asdict(each) | {"blocks": each.blocks} for each in found]


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where attention of ours is wrong."""
    args = parse(argv)
    trees = shapes(args.quick)
    command = shlex.join(["python", "-m", "tests.bench.bench_attention", *(sys.argv[1:] if argv is None else argv)])
    print(f"command   {command}\nCounted bytes and FLOPs of one layer, one decode step, planned for an H100:")
    figures: dict[str, Any] = {"command": command, "counted": [counted(shape) for shape in trees]}
    print_counted(figures["counted"])
    if not args.no_compile:
        print("\nKernels as compiled, in registers a thread and bytes:")
        figures["compiled"] = compiled(args.quick)
    figures["cpu"], right = compare(args.quick)
    if right:
        mean = figures["cpu"]["geometric_mean"]
        row = {"name": "attention on CPU, the rule's choice", "figure": f"least {figures['cpu']['least']:.2f}"}
        figures["summary"] = [row | {"baseline": "the best other choice, each tree", "ratio": mean, "goal": ">= 1"}]
    figures["native"], native_right = attention_native.compare(args.quick)
    for way, mean in figures["native"].get("geometric_mean", {}).items():
        row = {"name": f"attention in C by {way}", "figure": f"least {figures['native']['least'][way]:.2f}"}
        figures.setdefault("summary", []).append(row | {"baseline": "torch, bfloat16", "ratio": mean, "goal": ">= 1"})
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if right and native_right else 1


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_attention", *sys.argv[1:]])
    sys.exit(main())
