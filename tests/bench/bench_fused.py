"""Fused operations against the same computed as `transformers` does, in the same run.

    python -m tests.bench.bench_fused [--quick] [--json FILE] [--threads N]

RMS norm, the residual addition with it, SiLU-mul over a merged product, and RoPE with the cache's update, in the sizes
of the bundled model and of Qwen2.5-Coder 1.5B and 7B. On CPU the variants in torch, float32, one after the other in
every round, the fastest counts; on a GPU the Triton kernels, bfloat16, replayed from CUDA graphs. No ratio is printed
unless both give the same.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from engine.model.fused_ops import Ops, close, ops_for, random
from kernels import native

Call = Callable[[], Any]
SECONDS = 0.01  # of one round's calls, at least


class Size(NamedTuple):
    """What the operations see of a model."""

    name: str
    hidden: int
    gate: int
    heads: int
    kv_heads: int
    head_dim: int


SIZES = [
    Size("bundled model", 256, 704, 8, 4, 32),
    Size("Qwen2.5-Coder-1.5B", 1536, 8960, 12, 2, 128),
    Size("Qwen2.5-Coder-7B", 3584, 18944, 28, 4, 128),
]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fused", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="of torch, on CPU")
    parser.add_argument("--rounds", type=int, default=20, help="on CPU")
    parser.add_argument("--quick", action="store_true", help="the bundled model's sizes, 64 rows, 10 rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds = 10
    return args


def cases(size: Size, rows: int, like: Tensor, ops: Ops) -> Iterator[tuple[str, Call, Call]]:
    """Name, the fused operation, and `transformers`' own code for it."""
    x, residual = random(2, 1, rows, size.hidden, like=like).unbind()
    norm = LlamaRMSNorm(size.hidden, eps=1e-6).to(like.device, like.dtype)
    norm.requires_grad_(False).weight.copy_(random(size.hidden, like=like))
    yield "RMS norm", lambda: ops.rms_norm(x, norm.weight, 1e-6), lambda: norm(x)

    def added() -> tuple[Tensor, Tensor]:
        total = residual + x
        return norm(total), total

    yield "addition and RMS norm", lambda: ops.add_rms_norm(x, residual, norm.weight, 1e-6), added
    gate_up = random(1, rows, 2 * size.gate, like=like)

    def gated() -> Tensor:
        gate, up = gate_up.split(size.gate, dim=-1)
        return silu(gate) * up

    yield "SiLU-mul", lambda: ops.silu_mul(gate_up), gated

    heads = [size.heads, size.kv_heads, size.kv_heads]
    merged = random(rows, sum(heads) * size.head_dim, like=like).view(1, rows, sum(heads), size.head_dim)
    query, key, value = torch.split(merged.transpose(1, 2), heads, dim=1)
    angles = random(1, rows, size.head_dim // 2, like=like).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    cache = torch.zeros(2, size.kv_heads, 4 * rows, size.head_dim, dtype=like.dtype, device=like.device)
    other = torch.zeros_like(cache)
    slots = torch.randperm(4 * rows, generator=torch.Generator().manual_seed(0))[:rows].to(like.device)

    def fused() -> tuple[Tensor, Tensor]:
        out = ops.rope_store(query[0], key[0], value[0], (cos[0], sin[0]), cache[0], cache[1], slots)
        return out, cache

    def plain() -> tuple[Tensor, Tensor]:
        turned, keys = apply_rotary_pos_emb(query, key, cos, sin)
        other[0].index_copy_(1, slots, keys[0])
        other[1].index_copy_(1, slots, value[0])
        return turned[0], other

    yield "RoPE and store", fused, plain


@torch.inference_mode()
def agree(fused: Call, plain: Call) -> bool:
    """Whether both give the same."""
    results = [(found,) if isinstance(found, Tensor) else found for found in (fused(), plain())]
    return all(close(a, b, float(b.abs().max())) for a, b in zip(*results, strict=True))


def timed(
    fused: Call, plain: Call, device: str, rounds: int, of: Callable[[list[float]], float] = min
) -> tuple[float, float]:
    """Microseconds of a call of both; on a CPU `of` all rounds."""
    if device == "cuda":
        from triton.testing import do_bench_cudagraph

        return do_bench_cudagraph(fused) * 1000, do_bench_cudagraph(plain) * 1000
    begin = time.perf_counter()
    plain()
    calls = max(1, int(SECONDS / (time.perf_counter() - begin)))
    found: dict[str, list[float]] = {"fused": [], "plain": []}
    for _ in range(rounds):
        for name, function in (("fused", fused), ("plain", plain)):
            begin = time.perf_counter()
            for _ in range(calls):
                function()
            found[name].append((time.perf_counter() - begin) / calls * 1e6)
    return of(found["fused"]), of(found["plain"])


def dtype_on(device: str) -> torch.dtype:
    """The dtype that is fused best there."""
    return torch.bfloat16 if device == "cuda" or native.library() is not None else torch.float32


@torch.inference_mode()
def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry for every operation, size and number of rows; also printed."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    like = torch.empty(0, device=device, dtype=dtype_on(device))
    ops = ops_for(torch.device(device), like.dtype)
    found = []
    for size in SIZES[:1] if args.quick else SIZES:
        for rows in (64,) if args.quick else (1, 64, 512):
            for name, fused, plain in cases(size, rows, like, ops):
                if not agree(fused, plain):
                    raise SystemExit(f"{name}, {size.name}, {rows} rows: the fused operation gives something else")
                ours, theirs = timed(fused, plain, device, args.rounds)
                found.append(
                    {
                        "operation": name,
                        "size": size.name,
                        "rows": rows,
                        "fused_us": round(ours, 2),
                        "transformers_us": round(theirs, 2),
                        "ratio": round(theirs / ours, 3),
                    }
                )
                print(f"{name:22} {size.name:20} {rows:4} rows {ours:9.1f} us, {theirs:9.1f} us: {theirs / ours:5.2f}x")
    return found


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    found = measure(args)
    gpu = torch.cuda.is_available()
    record = {
        "command": shlex.join(["python", "-m", "tests.bench.bench_fused", *(sys.argv[1:] if argv is None else argv)]),
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "implementation": ops_for(torch.device(device := "cuda" if gpu else "cpu"), dtype_on(device)).name,
        "threads": args.threads,
        "torch": torch.__version__,
        "results": found,
        "summary": [
            {
                "name": f"{row['operation']}, {row['size']}, {row['rows']} rows",
                "figure": f"{row['fused_us']} us",
                "baseline": f"transformers: {row['transformers_us']} us",
                "ratio": row["ratio"],
            }
            for row in found
            if row["rows"] == 64
        ],
    }
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
