"""Speed on real weights: the engine against llama.cpp on the very GGUF file, and `transformers.generate` in bfloat16.

    python -m tests.bench.bench_real [--quick] [--model FILE] [--json FILE] [-- ENGINE OPTIONS]

One prompt of 2,048 tokens of this repository's source and 32 new tokens, for 1, 8 and 64 samples, on 2 threads; medians
of rounds in which all take turns. A prompt's time ends when all samples have their first token; decoding is what comes
after it. The engine has the options of `python -m engine`, and llama.cpp the fastest of its ways for each row, by a
trial. No figure is printed unless each token that the engine chooses greedily is the one of `transformers`, or nearly.
`make models` fetches the model.
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria
from transformers.utils.logging import disable_progress_bar

from bot.errors import ModelMissing
from bot.llm.published_models import QWEN, locate
from engine.cli import read
from engine.core import Core
from engine.errors import LoadError
from engine.schedule.sequence import Request, SamplingParams
from engine.server.process import build_core
from engine.weights.checkpoint import resolve
from tests.bench.bench_engine import Text, machine
from tests.bench.llama_baseline import CHOICES, missing
from tests.bench.llama_child import LlamaChildren, Way
from tests.bench.timing import Timing, Watch

MODELS = Path(__file__).parent.parent.parent / "var" / "models"
CHECK_PROMPT, CHECK_NEW = 512, 16  # tokens of the greedy comparison
# How far below the best logit of `transformers` in bfloat16 a chosen token's may be. 16-bit logits of this size are
# 0.125 apart, and llama.cpp multiplies by weights of 4 bits, which the engine has only rounded to 16.
TIES = {"engine": 0.25, "llama.cpp": 1.0}
SPARE = 4  # times the tokens of the largest row that the engine's cache holds


class Row(NamedTuple):
    """One line of figures. `goal`: the engine's rate over llama.cpp's."""

    name: str
    samples: int
    decodes: bool
    goal: float


ROWS = [
    Row("prefill", 1, False, 4.0),
    Row("decode, 1 sample", 1, True, 1.0),
    Row("decode, 8 samples", 8, True, 1.2),
    Row("decode, 64 samples", 64, True, 2.0),
]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_real", description=__doc__)
    parser.add_argument("--model", default=QWEN.name, help="a published one's name, a GGUF file or a folder")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens")
    parser.add_argument("--new", type=int, default=32, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="all in turn; medians count")
    parser.add_argument("--quantization", help="of the engine (default: its own)")
    parser.add_argument("--without", action="append", default=[], choices=["generate", "llama.cpp"])
    parser.add_argument("--quick", action="store_true", help="256 tokens, 8 new ones, one round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("options", nargs="*", help="more of the engine's, after --")
    args = parser.parse_args(argv)
    if args.quick:
        args.prompt, args.new, args.rounds = 256, 8, 1
    return args


def load(folder: Path, args: argparse.Namespace) -> Core:
    """The engine as its command makes it, with a cache that holds every row. Raises `LoadError`."""
    tokens = SPARE * (max(args.prompt, CHECK_PROMPT) + max(row.samples for row in ROWS) * (args.new + 16))
    argv = ["--model", str(folder), "--threads", str(args.threads), "--cache-tokens", str(tokens)]
    argv += ["--quantization", args.quantization] if args.quantization else []
    return build_core(read([*argv, *args.options]))


def run_engine(core: Core, prompt: list[int], samples: int, new: int, greedy: bool = False) -> Timing:
    """On a cache that holds nothing yet, but whose memory is there."""
    core.reset()
    core.model.cache.fill_(0)
    params = SamplingParams(temperature=0.0 if greedy else 1.0, max_tokens=new, ignore_eos=True, seed=0)
    request = Request(prompt, params, n=samples)
    core.check(request)
    watch = Watch(samples)
    core.submit(request)
    while core.busy:
        for output in core.step():
            if output.error is not None:
                raise output.error
        if all(sequence.generated for sequence in request.sequences):
            watch.mark(request.completion_tokens)
    return watch.read(samples * new, [sequence.tokens[-new:] for sequence in request.sequences])


class _Marks(StoppingCriteria):  # type: ignore[misc]
    """Stops nothing; is called after every token."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._watch.mark()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def run_generate(model: Any, prompt: list[int], samples: int, new: int) -> Timing:
    """`transformers`' own generation."""
    config = GenerationConfig(
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        num_return_sequences=samples,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens = torch.tensor([prompt])
    watch = Watch(samples)
    with torch.inference_mode():
        output = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            generation_config=config,
            stopping_criteria=[_Marks(watch)],
        )
    return watch.read(samples * new, output[:, len(prompt) :].tolist())


def shortfall(model: Any, prompt: list[int], reply: list[int]) -> float:
    """By how much the worst token of a greedy reply falls short of the logit that is best in its place."""
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + reply]), logits_to_keep=len(reply) + 1).logits[0, :-1].float()
    chosen = logits.gather(1, torch.tensor(reply)[:, None])[:, 0]
    return float((logits.max(dim=1).values - chosen).max())


def choose(llama: LlamaChildren, prompt: list[int], new: int) -> dict[str, Way]:
    """The fastest way of llama.cpp for each row, by a run of a quarter of the new tokens each."""
    rates: dict[str, dict[Way, float]] = {row.name: {} for row in ROWS}

    def best() -> dict[str, Way]:
        return {name: max(found, key=lambda way: found[way]) for name, found in rates.items()}

    def attempt(way: Way) -> None:
        print(f"  trial of llama.cpp: {way}", flush=True)
        for samples in sorted({row.samples for row in ROWS}):
            found = llama.time(way, prompt, samples, max(2, new // 4))
            for row in ROWS:
                if row.samples == samples:
                    rates[row.name][way] = found.rate(0) if row.decodes else len(prompt) / found.prefill
        llama.rest()

    for choice in CHOICES:
        attempt(Way(choice, passive=False))
    for choice in {way.choice for way in best().values()}:  # the others are behind already
        attempt(Way(choice, passive=True))
    return best()


def measure(row: Row, ways: dict[str, Callable[..., Timing]], text: Text, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of every round, by engine."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.rounds):
        prompt = text.take(args.prompt)
        for name, way in ways.items():
            found = way(prompt=prompt, samples=row.samples, new=args.new if row.decodes else 1)
            rates[name].append(found.rate(args.prompt))
        print(f"  {row.name}: round {turn + 1}/{args.rounds}", flush=True)
    return rates


def figures_of(row: Row, rates: dict[str, list[float]]) -> dict[str, Any]:
    """One row's numbers: median, least and most of each engine, and the engine's ratio to the others."""
    middle = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "name": row.name,
        "samples": row.samples,
        "tokens_per_second": {
            name: {"median": round(middle[name], 2), "min": round(min(found), 2), "max": round(max(found), 2)}
            for name, found in rates.items()
        },
        "engine_over": {name: round(middle["engine"] / rate, 2) for name, rate in middle.items() if name != "engine"},
        "goal": row.goal,
    }


def words(figures: dict[str, Any]) -> str:
    """One row for people."""
    rates, parts = figures["tokens_per_second"], []
    for name, rate in rates.items():
        ratio = f" (x {figures['engine_over'][name]:.2f})" if name in figures["engine_over"] else ""
        parts.append(f"{name} {rate['median']:.1f}{ratio}")
    goal = f"; goal >= {figures['goal']:g} x llama.cpp" if "llama.cpp" in rates else ""
    return f"{figures['name']}: {', '.join(parts)} tokens/s{goal}"


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `make bench`'s table."""
    return [
        {
            "name": f"real weights, {result['name']}",
            "figure": f"{result['tokens_per_second']['engine']['median']:,.1f} tokens/s",
            "baseline": f"{other}: {result['tokens_per_second'][other]['median']:,.1f} tokens/s",
            "ratio": ratio,
            "goal": f">= {result['goal']:g}" if other == "llama.cpp" else "",
        }
        for result in results
        for other, ratio in result["engine_over"].items()
    ]


def lack_of_llama(model: Path, args: argparse.Namespace) -> str:
    """Why llama.cpp is not compared; "" where it is."""
    if "llama.cpp" in args.without:
        return "left out"
    return missing() if model.is_file() else f"{model.name} is a folder, not a GGUF file"


def compare(core: Core, folder: Path, llama: LlamaChildren | None, args: argparse.Namespace) -> dict[str, Any]:
    """All rows and how they came about, or `problem` where a greedy reply is not what it should be."""
    text = Text(str(folder), core.model.vocabulary)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    prompt, asked = text.take(CHECK_PROMPT), {"samples": 1, "new": CHECK_NEW, "greedy": True}
    replies = {"engine": run_engine(core, prompt, **asked).replies[0]}
    if llama:
        replies["llama.cpp"] = llama.time(Way(CHOICES[0], False), prompt, **asked).replies[0]
    short = {name: round(shortfall(plain, prompt, reply), 3) for name, reply in replies.items()}
    print(f"greedy    furthest below the best logit of transformers: {short}", flush=True)
    if problems := [name for name, far in short.items() if not far < TIES[name]]:
        return {"problem": f"greedy tokens of {' and '.join(problems)} are not those of transformers: {short}"}
    best = choose(llama, text.take(args.prompt), args.new) if llama else {}
    results = []
    for row in ROWS:
        ways: dict[str, Callable[..., Timing]] = {"engine": partial(run_engine, core)}
        if llama:
            ways["llama.cpp"] = partial(llama.time, best[row.name])
        if "generate" not in args.without and row.samples == 1:
            ways["generate"] = partial(run_generate, plain)
        for name, way in ways.items():
            if name != "llama.cpp":  # warms itself up
                way(prompt=text.take(64), samples=row.samples, new=2)
        results.append(figures_of(row, measure(row, ways, text, args)))
        print(words(results[-1]), flush=True)
        if llama:
            llama.rest()
    how = {name: str(way) for name, way in best.items()}
    return {"greedy_shortfall": short, "llama_ways": how, "rows": results, "summary": summary(results)}


def versions() -> dict[str, str]:
    """Of what computes here."""
    found = {}
    for name in ("torch", "transformers", "torchao", "llama-cpp-python"):
        with contextlib.suppress(ImportError):
            found[name] = version(name)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where greedy tokens differ or the model is not loaded."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_real", *(argv if argv is not None else sys.argv[1:])])
    try:
        model = locate(args.model, MODELS)
    except ModelMissing as lacking:
        print(f"real weights are left out: {lacking}")
        return 0
    device, lack = machine(), lack_of_llama(model, args)
    torch.set_num_threads(args.threads)
    disable_progress_bar()
    print(f"command   {command}\nmachine   {device}; {args.threads} threads, {versions()}\nmodel     {model.name}")
    if lack:
        print(f"llama.cpp is not compared: {lack}", flush=True)
    llama = None if lack else LlamaChildren(model, args.threads)
    try:
        folder = resolve(str(model))
        core = load(folder, args)
        found = compare(core, folder, llama, args)
    except LoadError as error:
        found = {"problem": str(error)}
    finally:
        if llama:
            llama.close()
    if "problem" in found:
        print(f"no figures: {found['problem']}", file=sys.stderr)
        return 1
    if args.json:
        sizes = {"prompt": args.prompt, "new": args.new, "threads": args.threads, "rounds": args.rounds}
        dtype = str(core.model.dtype).removeprefix("torch.")
        ours = {"dtype": dtype, "quantization": args.quantization or "the default", "options": args.options}
        about = {"command": command, "machine": device, "model": model.name, **sizes, "engine": ours, **versions()}
        args.json.write_text(json.dumps({**about, "llama_cpp": lack or "compared", **found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_real", *sys.argv[1:]])
    sys.exit(main())
