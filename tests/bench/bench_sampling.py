"""Sampling of a step's rows on the CPU, in parts that its caches hold, against all rows at once in the same run.

    python -m tests.bench.bench_sampling [--quick] [--json FILE]

Logits as peaked as a model's; vocabularies of SmolLM2 and Qwen2.5. Milliseconds of this process's CPU time on one
thread, the best of several rounds taken in turn, so that a busy machine disturbs little. Both give the same tokens.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from engine.run.sampling import Draw, Draws, logprobs, sample
from engine.schedule.sequence import SamplingParams

SIZES = ((256, 49_152), (64, 151_936))  # rows, vocabulary
WAYS = {"temperature 0.6": SamplingParams(temperature=0.6), "top-p 0.95": SamplingParams(temperature=0.6, top_p=0.95)}
ROUNDS = 7
ALL = 1 << 60  # numbers that go through together: all


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def measure(run: Callable[[], torch.Tensor], rounds: int) -> tuple[float, float]:
    """Milliseconds in parts, and all at once.

    Raises:
        SystemExit: they differ in what they give.
    """
    parts = run()
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        best[0] = min(best[0], seconds(run))
        with mock.patch("engine.run.sampling.RESIDENT", ALL):
            best[1] = min(best[1], seconds(run))
            whole = run()
    if not torch.equal(parts, whole):
        raise SystemExit("in parts something else is drawn than at once")
    return 1000 * best[0], 1000 * best[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_sampling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    summary = []
    for rows, vocabulary in SIZES:
        logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
        cases: dict[str, Callable[[], torch.Tensor]] = {}
        for name, params in WAYS.items():
            draws = Draws.of([Draw(params, seed, 0) for seed in range(rows)])
            cases[name] = lambda logits=logits, draws=draws: sample(logits, draws)  # type: ignore[misc]
        tokens = logits.argmax(dim=-1)
        cases["log-probabilities"] = lambda logits=logits, tokens=tokens: logprobs(logits, tokens, 0)[0]  # type: ignore[misc]
        for name, run in cases.items():
            parts, whole = measure(run, 2 if arguments.quick else ROUNDS)
            label = f"{name}, {rows} rows of {vocabulary:,}"
            print(f"{label}: {parts:.1f} ms in parts, {whole:.1f} ms at once: {whole / parts:.1f}x", flush=True)
            row = {"name": label, "figure": f"{parts:.1f} ms", "baseline": f"all at once: {whole:.1f} ms"}
            summary.append(row | {"ratio": round(whole / parts, 2), "goal": "-"})
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": {"summary": summary}}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
