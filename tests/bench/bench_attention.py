"""Tree attention: bytes and FLOPs counted against the floor; times on the CPU, and on a GPU, against others in the same
run.

    python -m tests.bench.bench_attention [--quick] [--json FILE]

Everywhere: what one layer's attention of one decode step moves and computes over the trees of `attention_trees`, with
sharing and as plain paged decode, as ratios to the floor (every distinct token read once; no padding); registers,
spills and shared memory of the kernels as compiled for sm_80 and sm_90; and times of the CPU's path over a grid of
trees, by the cost rule against sharing all nodes, none, or the first levels only (`attention_cpu`). On a GPU: seconds
of our kernel, alone and in a CUDA graph, of FlashInfer's cascade wrapper and paged decode, of torch's variable-length
attention, and the floor at the rates measured there. No ratio of times is printed unless ours agrees with the reference
first.
"""

import argparse
import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

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
    from kernels.tree_attention.buffers import Heads
    from kernels.tree_attention.plan import Tiling
    from kernels.tree_attention.triton import _tree_attention, constants
    from tests.kernels.compiling import ARCHITECTURES, table, usage
    from tests.kernels.test_tree_attention_compiled import MERGE, signature

    found = []
    for dim, kind in ((128, "bf16"),) if quick else COMPILED:
        tiling = Tiling.of(dim, 4 if kind == "fp32" else 2)
        fixed = {"query_dim": 1} | constants(tiling, Heads(32, 4, dim, 2), 16)
        for each in ARCHITECTURES:
            sizes: dict[str, Any] = {"architecture": each, "warps": tiling.warps, "stages": tiling.stages}
            found.append(usage(_tree_attention, signature(kind), fixed, label=f"tree_attention {kind} {dim}", **sizes))
    merge = {"partial_dim": 1, "lse_head": 1, "DIM": 128, "WIDTH": 128, "HEADS": HEADS, "PARTS": PARTS}
    found += [usage(_merge, MERGE, merge, architecture=each, label="lse_merge bf16 128") for each in ARCHITECTURES]
    print(table(found))
    return [asdict(each) | {"blocks": each.blocks} for each in found]


def timed(trees: list[Shape]) -> tuple[dict[str, Any], bool]:
    """Times on the GPU; also printed. False where our kernel is wrong: there are no ratios then."""
    from tests.bench.attention_gpu import Rates, measure

    rates = Rates.measure()
    print(f"\n{torch.cuda.get_device_name()}: {rates.bytes / 1e9:.0f} GB/s, {rates.flops / 1e12:.0f} TFLOP/s measured")
    found, ratios = [], []
    for shape in trees:
        times, wrong = measure(shape, rates)
        if wrong:
            print(f"no figures: {wrong}")
            return {"wrong": wrong}, False
        found.append({"shape": shape.name, "seconds": times, "floor_over_ours": times["floor"] / times["ours"]})
        print(shape.name)
        for name, value in times.items():
            text = value if isinstance(value, str) else f"{value * 1e6:10.1f} us {value / times['ours']:7.2f}x ours"
            print(f"    {name:22} {text}")
        if isinstance(times["flashinfer cascade"], float):
            ratios.append(times["flashinfer cascade"] / times["ours"])
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "bytes_per_second": rates.bytes}
    figures |= {"flops_per_second": rates.flops, "trees": found}
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        figures["over_flashinfer_cascade"] = {"geometric_mean": mean, "least": min(ratios)}
        print(f"over FlashInfer's cascade: {mean:.2f}x (geometric mean of {len(ratios)}), least {min(ratios):.2f}x")
    return figures, True


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where our kernel is wrong."""
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
    if torch.cuda.is_available():
        figures["timed"], fits = timed(trees)
        right = right and fits
    else:
        print("\nno GPU here: nothing was timed on one")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_attention", *sys.argv[1:]])
    sys.exit(main())
