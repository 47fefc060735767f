"""Speculation on and off: the same model, requests and threads in the same run.

    python -m tests.bench.bench_speculation [--quick] [--json FILE]

The bundled model writes tests and edits for the demo's issues, replies that copy paths and lines of their prompt:
greedy, then sampled again and again as trajectories do. One stream asks for one reply after the other, four streams for
four samples at once. Trees and cache are empty at the start of every round. No ratio is printed unless all replies are
the same token for token.
"""

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch

from bot.llm.prompts import render
from engine.choices import BUNDLED_MODEL
from engine.core import Core
from engine.model.model import Model
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.settings import Settings
from engine.text.chat_template import Chat
from engine.text.tokenizer import Tokenizer
from tests.bench.bench_engine import machine

CASES = Path(__file__).parent.parent / "demo" / "cases"
GREEDY = SamplingParams(temperature=0.0, max_tokens=160)
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=160)  # as Capuchin is used


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_speculation", description=__doc__)
    parser.add_argument("--samples", type=int, default=16, help="of every test and edit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of both, one after the other; the best of each counts")
    parser.add_argument("--model", default=str(BUNDLED_MODEL), help="a folder (default: the bundled model)")
    parser.add_argument("--quick", action="store_true", help="4 samples, one round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.samples, args.rounds = 4, 1
    return args


def load(folder: str, max_draft: int) -> Core:
    """An engine of its own, with speculation where `max_draft` is not 0."""
    model = Model.load(folder, "float32", "cpu")
    return Core(model, Tokenizer.load(folder), 2000, Limits(max_draft=max_draft))


def conversations(core: Core) -> list[list[int]]:
    """Prompts that ask for a test, and for an edit given the test that the model writes."""
    prompts = []
    for case in sorted(path for path in CASES.iterdir() if path.is_dir()):
        title, _, body = (case / "issue.md").read_text().partition("\n")
        root = case / "repository"
        files = [
            SimpleNamespace(path=str(path.relative_to(root)), text=path.read_text())
            for path in sorted(root.rglob("*.py"))
            if "tests" not in path.parts[len(root.parts) :] and path.name != "__init__.py"
        ]
        shared = {"issue": SimpleNamespace(title=title, body=body.strip()), "files": files}
        asked = ask(core, render("compact", "test", **shared))
        request = Request(asked, GREEDY)
        core.run([request])
        written = core.tokenizer.decoder(asked)
        text = "".join(map(written.push, request.sequences[0].tokens[len(asked) :])) + written.flush()
        test = SimpleNamespace(path="test_issue.py", text="\n".join(text.split("\n")[1:-1]))
        prompts += [asked, ask(core, render("compact", "edit", **shared, test=test))]
    return prompts


def ask(core: Core, text: str) -> list[int]:
    """The prompt's tokens."""
    return core.tokenizer.chat(Chat([{"role": "user", "content": text}])).tokens


@dataclass(frozen=True)
class Figures:
    """One round."""

    seconds: float
    steps: int
    tokens: int
    drafted: int
    accepted: int
    replies: list[list[int]]


def work(core: Core, prompts: list[list[int]], streams: int, samples: int, greedy: bool) -> Figures:
    """All replies of one round, on an engine that knows nothing yet."""
    core.reset()
    replies: list[list[int]] = []
    steps, begin = core.stats.steps, time.perf_counter()
    for prompt in prompts:
        for first in range(0, streams if greedy else samples, streams):
            params = GREEDY if greedy else replace(SAMPLED, seed=first)
            requests = [Request(prompt, params, n=1 if greedy else streams)]
            core.run(requests)
            replies += [s.tokens[len(prompt) :] for request in requests for s in request.sequences]
    seconds = time.perf_counter() - begin
    counters = core.scheduler.counters
    return Figures(
        seconds,
        core.stats.steps - steps,
        counters.generated_tokens,
        counters.drafted_tokens,
        counters.accepted_tokens,
        replies,
    )


def compare(off: Core, on: Core, prompts: list[list[int]], name: str, args: argparse.Namespace) -> dict[str, object]:
    """Rounds of both in turns, and their figures; nothing where a reply differs."""
    streams, greedy = (1, True) if name == "greedy" else (int(name), False)
    best: dict[str, Figures] = {}
    for _ in range(args.rounds):
        for mode, core in (("off", off), ("on", on)):
            found = work(core, prompts, streams, args.samples, greedy)
            if mode == "on" and found.replies != best["off"].replies:
                return {}
            if mode not in best or found.seconds < best[mode].seconds:
                best[mode] = found
    return {
        "streams": streams,
        "temperature": 0.0 if greedy else SAMPLED.temperature,
        "tokens": best["on"].tokens,
        "off_tokens_per_second": round(best["off"].tokens / best["off"].seconds, 1),
        "on_tokens_per_second": round(best["on"].tokens / best["on"].seconds, 1),
        "off_steps": best["off"].steps,
        "on_steps": best["on"].steps,
        "drafted": best["on"].drafted,
        "accepted": best["on"].accepted,
        "acceptance": round(best["on"].accepted / max(1, best["on"].drafted), 3),
        "ratio": round(best["off"].seconds / best["on"].seconds, 2),
    }


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where replies differ."""
    args = parse(argv)
    words = argv if argv is not None else sys.argv[1:]
    command = shlex.join(["python", "-m", "tests.bench.bench_speculation", *words])
    device = machine()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    off, on = load(args.model, 0), load(args.model, Settings().max_draft)
    prompts = conversations(off)
    print(f"command   {command}\nmachine   {device}; {args.threads} threads, torch {torch.__version__}")
    print(f"workload  {len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens")
    results = {}
    for name in ("greedy", "1", "4"):
        found = compare(off, on, prompts, name, args)
        if not found:
            print("replies differ with speculation: no figures")
            return 1
        results["one_stream_greedy" if name == "greedy" else f"streams_{name}_sampled"] = found
        print(
            f"{found['streams']} stream(s), temperature {found['temperature']}: "
            f"{found['off_tokens_per_second']} -> {found['on_tokens_per_second']} tokens/s, ratio {found['ratio']}; "
            f"{found['off_steps']} -> {found['on_steps']} steps; "
            f"{found['accepted']} of {found['drafted']} drafted tokens accepted"
        )
    if args.json:
        figures = {
            "command": command,
            "machine": device,
            "threads": args.threads,
            "torch": torch.__version__,
            "model": Path(args.model).name,
            **results,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_speculation", *sys.argv[1:]])
    sys.exit(main())
