"""A decoding step of a layer with a gated delta rule or a state space on a CPU: states advanced in their pool, and
copied out and back.

    python -m tests.bench.bench_recurrent [--quick] [--json FILE] [--threads N] [--texts N...] [--kinds KIND...]

Layers of Qwen3-Next (32 heads, 16 of keys) and Kimi-Linear (32, whose features decay on their own), states of 128 x 128
float32 numbers a head; of Nemotron-H (Mamba 2: 128 heads, states of 64 x 128) and Jamba (Mamba: 8,192 x 16). Weights in
the dtype that is fused best here. Of each the rule alone with its copies, and the whole layer, with its convolution.
Both ways one after the other in every round, the median counts. No ratio is printed unless both give the same.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from engine.model.in_pool import COPIES, advances_for
from tests.bench.bench_fused import dtype_on, timed
from tests.bench.recurrent_steps import LAYERS, Bed, Step

AGREED = 0.02  # standard deviations


@torch.inference_mode()
def measure(texts: list[int], rounds: int, kinds: Collection[str] = LAYERS) -> list[dict[str, Any]]:
    """An entry for each layer, number of texts and part; also printed."""
    device = torch.device("cpu")
    advances = advances_for(device)
    if advances == COPIES:
        print("no kernel in C here: states are copied")
        return []
    found = []
    for kind in kinds:
        for count in texts:
            bed = Bed(Step(kind, count), device, dtype_on("cpu"))
            few = max(3, rounds if count < 64 else rounds // 4)
            other = torch.empty_like(bed.state)
            _, copy = timed(lambda: None, lambda other=other, bed=bed: other.copy_(bed.state), "cpu", few, median)  # type: ignore[misc]
            parts = {"rule": bed.rule, "layer": bed.whole}
            for part, run in parts.items():  # before many tokens in a row, which make states of any size
                if not (error := bed.error(run.__name__, advances)) < AGREED:
                    raise SystemExit(f"{kind}, {part}, {count} texts: {error:.2g} standard deviations off")
            for part, run in parts.items():
                ours, theirs = timed(lambda run=run: run(advances), lambda run=run: run(COPIES), "cpu", few, median)  # type: ignore[misc]
                found.append(
                    {"layer": kind, "part": part, "texts": count, "pool_us": round(ours, 1)}
                    | {"copied_us": round(theirs, 1), "ratio": round(theirs / ours, 2)}
                    | {"floor_us": round(copy, 1)}
                )
                words = f"{ours:9.0f} us in the pool, {theirs:9.0f} us copied: {theirs / ours:6.2f}x"
                print(f"{kind:12} {part:6} {count:4} texts  {words}; one copy of its states {copy:.0f} us", flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_recurrent", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="a quarter of them from 64 texts on")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--kinds", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--quick", action="store_true", help="1 and 8 texts, 10 rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.quick:
        args.texts, args.rounds = [1, 8], 10
    found = measure(args.texts, args.rounds, args.kinds)
    given = sys.argv[1:] if argv is None else argv
    record = {
        "command": shlex.join(["python", "-m", "tests.bench.bench_recurrent", *given]),
        "threads": args.threads,
        "torch": torch.__version__,
        "results": found,
        "summary": [
            {
                "name": f"{row['layer']}, {row['part']}, {row['texts']} texts",
                "figure": f"{row['pool_us']} us in the pool",
                "baseline": f"copied: {row['copied_us']} us",
                "ratio": row["ratio"],
            }
            for row in found
        ],
    }
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
