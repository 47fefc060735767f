"""Memory that loading a quantised checkpoint takes at its peak, streamed and as a whole, in the same run.

    python -m tests.bench.bench_load [--quick] [--json FILE]

A Qwen3-MoE model of random weights in FP8 (a scale a row, three files) is loaded in bfloat16 in processes of their own:
by the engine, which dequantises a weight when it goes into the model, and as before, with all weights dequantised
first. Memory is what the process itself holds (`RssAnon`), sampled, above what it held before; pages of mapped files,
which the system may drop, are not in it. `parameters` is the least that any way can take.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from engine.model import model
from engine.model.dequantize import Target, dequantized
from tests.engine.model.test_dequantize import fp8_rows
from tests.engine.model.test_stored import split

MiB = 1 << 20
PERIOD = 0.002  # seconds between two looks at the memory


def make(folder: Path, layers: int, experts: int) -> None:
    """A checkpoint in FP8."""
    config = Qwen3MoeConfig(
        vocab_size=1024,
        hidden_size=512,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        num_experts=experts,
        num_experts_per_tok=2,
        moe_intermediate_size=512,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        parts, _ = fp8_rows(tensors.pop(name).float())
        tensors |= {name.removesuffix("weight") + end: part.contiguous() for end, part in parts.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"quantization_config": {"quant_method": "fp8"}}))
    split(folder)


def held() -> int:
    """Bytes of this process's own memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def before_streaming() -> Iterator[None]:
    """Inside, a checkpoint is dequantised as a whole before it goes into the model."""

    def whole(*given: Any) -> dict[str, Tensor]:
        return {name: weight[...] for name, weight in dequantized(*given).items()}

    with patch.object(model, "dequantized", whole), patch.object(model, "one_by_one", nullcontext):
        yield


def load(folder: Path, way: str) -> dict[str, float]:
    """Peak memory in MiB and seconds of loading; in a process of its own."""
    config: Any = model.read_config(str(folder))
    peak = before = held()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, held())
            time.sleep(PERIOD)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.perf_counter()
    with before_streaming() if way == "as a whole" else nullcontext():
        inner, _ = model._weights(str(folder), config, Target(torch.bfloat16), 1, "cpu")
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    parameters = sum(weight.numel() * weight.element_size() for weight in inner.parameters())
    return {"peak": (peak - before) / MiB, "parameters": parameters / MiB, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_load", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the size")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(load(Path(args.child[0]), args.child[1])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), 8, 4 if args.quick else 16)
        found = {}
        for way in ("streamed", "as a whole"):
            command = [sys.executable, "-m", "tests.bench.bench_load", "--child", folder, way]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[way] = json.loads(ended.stdout.splitlines()[-1])
            print(f"{way}: " + ", ".join(f"{name} {value:.1f}" for name, value in found[way].items()), flush=True)
    if args.json:
        ours, theirs = (found[way]["peak"] for way in ("streamed", "as a whole"))
        row = {"name": "memory of a load, MoE in FP8", "figure": f"{ours:.0f} MiB", "ratio": round(ours / theirs, 3)}
        row["baseline"] = f"as a whole: {theirs:.0f} MiB"
        args.json.write_text(json.dumps({"unit": "MiB, seconds", "ways": found, "summary": [row]}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
