"""What the batch-invariant mode costs: the same engine, weights, threads and run in both modes.

    python -m tests.bench.bench_invariant [--quick] [--json FILE]

Samples over one shared prefix, random weights in the shape of the bundled model. No ratio is printed unless the first
sample has the same bits alone and among the others in the invariant mode.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch

from engine.core import Core
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from tests.bench.bench_engine import load, make_tokenizer


def run(core: Core, prompt: list[int], new: int, samples: int, seed: int = 0) -> tuple[float, list[object]]:
    """Seconds, and what the first sample said with its log-probabilities."""
    core.reset()  # nothing cached
    request = Request(prompt, SamplingParams(max_tokens=new, ignore_eos=True, seed=seed, logprobs=1), n=samples)
    begin = time.perf_counter()
    outputs = core.run([request])
    seconds = time.perf_counter() - begin
    return seconds, [entry for output in outputs if output.index == 0 for entry in output.logprobs]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_invariant")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=2048, help="tokens")
    parser.add_argument("--new", type=int, default=32, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="8 samples, 256 tokens, 8 new")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if args.quick:
        args.samples, args.prefix, args.new = 8, 256, 8
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    longest = args.prefix + args.new + 1
    _, model = load(None, longest)
    rng = random.Random(0)
    prompt = [rng.randrange(model.vocabulary) for _ in range(args.prefix)]
    blocks = (args.prefix + args.samples * (args.new + 32)) // 16 + 8
    seconds = {}
    for name in ("usual", "invariant"):
        options = RunOptions(batch_invariant=name == "invariant")
        core = Core(model, make_tokenizer(), blocks, Limits(16, args.samples), options)
        run(core, prompt[:64], 4, 2)  # warm
        _, alone = run(core, prompt, args.new, 1)
        seconds[name], told = run(core, prompt, args.new, args.samples)
        if name == "invariant" and told != alone:
            print("the first sample's bits depend on the others: no figure", file=sys.stderr)
            return 1
    rates = {name: args.samples * args.new / value for name, value in seconds.items()}
    figures = {
        "samples": args.samples,
        "prefix": args.prefix,
        "new": args.new,
        "threads": args.threads,
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_slower": round(seconds["invariant"] / seconds["usual"], 2),
    }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps({"figures": figures}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
