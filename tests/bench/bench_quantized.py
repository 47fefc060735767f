"""Memory and time of linears over few-bit weights on this CPU, beside bfloat16 and torchao's, in the same run.

    python -m tests.bench.bench_quantized [--quick] [--json FILE]

The linears of two layers of a Llama of random weights (hidden size 1,536), merged as the engine does it, each called
once with 1 to 512 rows. Time is the CPU time of one thread, the best of several; memory is that of the weights as they
are multiplied, both layouts of four bits counted. `int8 by torchao` is what `--quantization int8` was before.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.model.fuse import merge_linears
from engine.model.packed_weights import pack_linears
from engine.model.quantize import is_linear, quantize
from engine.model.quantized_linear import kernel_for, quantized_linears, use_kernels

ROWS = (1, 8, 64, 512)
MiB = 1 << 20


def make(quick: bool) -> Any:
    """The model, in bfloat16, its linears merged."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=512 if quick else 1536,
        intermediate_size=1536 if quick else 8960,
        num_hidden_layers=2,
        num_attention_heads=12 if not quick else 8,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    merge_linears(model)
    return model


def by_torchao(model: Any) -> None:
    logging.getLogger("torchao").setLevel(logging.ERROR)
    from torchao import quantization

    config = quantization.Int8WeightOnlyConfig(set_inductor_config=False)
    chosen = {id(module) for module in model.modules() if is_linear(module) and module is not model.lm_head}
    quantization.quantize_(model, config, filter_fn=lambda module, name: id(module) in chosen)


def prepare(model: Any, way: str) -> tuple[list[nn.Module], int]:
    """The linears, ready to multiply, and the bytes of their weights."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not model.lm_head]
    taken = sum(module.weight.nbytes for module in linears)
    if way in ("int8", "int4"):
        quantize(model, way)
        use_kernels(model)
        kept = quantized_linears(model)
        both = way == "int4" and kernel_for(kept[0].packed, torch.bfloat16) is not None
        return list(kept), sum(each.packed.bytes + both * each.codes.nbytes for each in kept)
    if way == "int8 by torchao":
        by_torchao(model)
        return list(linears), taken // 2
    pack_linears(model)
    return list(linears), taken


@torch.inference_mode()
def measure(linears: list[nn.Module], rows: int, tries: int) -> float:
    """Milliseconds to call each once."""
    inputs = [torch.randn(rows, int(linear.in_features)).to(torch.bfloat16) for linear in linears]  # type: ignore[arg-type]
    best = float("inf")
    for _ in range(tries):
        begin = time.thread_time()
        for linear, x in zip(linears, inputs, strict=True):
            linear(x)
        best = min(best, time.thread_time() - begin)
    return best * 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_quantized", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller weights")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)

    found: dict[str, dict[str, float]] = {}
    for way in ("bfloat16", "int8 by torchao", "int8", "int4"):
        linears, taken = prepare(make(args.quick), way)
        found[way] = {"MiB": taken / MiB} | {f"ms at {rows}": measure(linears, rows, 5) for rows in ROWS}
        print(f"{way}: " + ", ".join(f"{name} {value:.2f}" for name, value in found[way].items()), flush=True)
    if args.json:
        pairs = [("int8", "bfloat16"), ("int4", "bfloat16"), ("int8", "int8 by torchao")]
        summary = [
            {
                "name": f"linears in {ours}, {name}",
                "figure": f"{found[ours][name]:.1f}",
                "baseline": f"{theirs}: {found[theirs][name]:.1f}",
                "ratio": round(found[ours][name] / found[theirs][name], 3),
            }
            for ours, theirs in pairs
            for name in found[ours]
        ]
        args.json.write_text(
            json.dumps({"unit": "MiB, milliseconds", "ways": found, "summary": summary}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
