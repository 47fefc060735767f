"""The engine on CPU against llama.cpp and `transformers.generate`: the same weights, threads and run.

    python -m tests.bench.bench_engine [--quick] [--json FILE]

Two workloads: 64 samples over one prompt of 2,048 tokens; and a tree, 8 branches of 256 tokens below that prompt with 8
samples each. 128 new tokens a sample, the bundled model in float32, prompts of real source text. No ratio is printed
unless the greedy text of all is the same, with these weights and with random ones.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from engine.choices import BUNDLED_MODEL
from engine.core import Core
from engine.model.attention import NAME
from engine.model.model import Model
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost
from tests.bench.llama_baseline import CHOICES, Branch, Choice, LlamaCpp, missing, write_gguf

ROOT = Path(__file__).parent.parent.parent
CACHE_MEMORY = 512 << 20  # bytes of the engine's cache, all touched before anything is timed
CHECK_PROMPT, CHECK_NEW = 512, 32  # tokens of the comparison of greedy texts

CAPUCHIN = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "tie_word_embeddings": True,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}


@dataclass(frozen=True)
class Workload:
    """`samples` outputs for each of `branches` prompts that share their first `prefix` tokens."""

    name: str
    prefix: int  # tokens
    own: int  # tokens of each branch behind the shared ones
    branches: int
    samples: int
    new: int  # tokens

    @property
    def sequences(self) -> int:
        """Rows of a decoding step."""
        return self.branches * self.samples

    @property
    def tokens(self) -> int:
        """All that is to be generated."""
        return self.sequences * self.new

    @property
    def distinct(self) -> int:
        """Tokens of all prompts and outputs, shared ones once."""
        return self.prefix + self.branches * self.own + self.tokens

    def __str__(self) -> str:
        below = f", below it {self.branches} branches of {self.own}" if self.own else ""
        return f"{self.sequences} samples of {self.new} tokens over a prompt of {self.prefix}{below}, temperature 1"


@dataclass(frozen=True)
class OneLevel(CutCost):
    """Attention shares what at least `least` sequences share, and nothing below."""

    least: int = 0

    def keeps(self, sequences: int, tokens: int, siblings: int = 1) -> bool:
        """See `CutCost`."""
        return sequences >= self.least


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_engine", description=__doc__)
    parser.add_argument("--prefix", type=int, default=2048, help="tokens")
    parser.add_argument("--new", type=int, default=128, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="all in turn; medians count. generate: the first only")
    parser.add_argument("--model", default=str(BUNDLED_MODEL), help="a Llama's folder, or `random`")
    parser.add_argument("--without", action="append", default=[], choices=["generate", "llama.cpp"])
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples, tokens and rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.prefix, args.new, args.rounds = 512, 32, 1
    return args


def load(folder: str | None, longest: int) -> tuple[Any, Model]:
    """The same weights twice: for `transformers` and for the engine."""
    if folder is not None:
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        return plain.eval(), Model.load(folder, "float32")
    torch.manual_seed(0)
    config = {**CAPUCHIN, "max_position_embeddings": longest}
    plain = AutoModelForCausalLM.from_config(LlamaConfig(**config), attn_implementation="sdpa").eval()
    twin = AutoModelForCausalLM.from_config(LlamaConfig(**config), attn_implementation=NAME)
    twin.load_state_dict(plain.state_dict())
    return plain, Model(twin)


def make_tokenizer() -> Tokenizer:
    """Any tokenizer: the benchmark speaks in tokens."""
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    fast = FastTokenizer(models.BPE(vocab=letters, merges=[]))
    fast.decoder = decoders.ByteLevel()
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=fast))


def generate(model: Any, branches: list[Branch], new: int, greedy: bool = False) -> list[list[int]]:
    """`transformers`' own generation, all samples in one batch."""
    config = GenerationConfig(
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=not greedy,
        temperature=None if greedy else 1.0,
        top_k=0 if not greedy else None,
        num_return_sequences=branches[0].samples,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens = torch.tensor([branch.prompt for branch in branches], device=model.device)
    with torch.inference_mode():
        output = model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=config)
    found: list[list[int]] = output[:, tokens.shape[1] :].tolist()
    return found


def run_engine(core: Core, branches: list[Branch], new: int, greedy: bool = False, seed: int = 0) -> list[list[int]]:
    """One request a branch, all at once, to their end."""
    params = SamplingParams(temperature=0.0 if greedy else 1.0, max_tokens=new, ignore_eos=True, seed=seed)
    requests = [Request(list(branch.prompt), params, n=branch.samples) for branch in branches]
    core.run(requests)
    return [sequence.tokens[-new:] for request in requests for sequence in request.sequences]


class Text:
    """Prompts that never come twice: source text where the model has a tokenizer, otherwise random tokens."""

    def __init__(self, folder: str | None, vocabulary: int) -> None:
        if folder is None:
            generator = torch.Generator().manual_seed(1)
            self._tokens = torch.randint(1, vocabulary, (200_000,), generator=generator).tolist()
        else:
            source = "\n".join(path.read_text() for path in sorted((ROOT / "bot").rglob("*.py")))
            self._tokens = Tokenizer.load(folder).encode(source, special=False)
        self._at = 0

    def take(self, count: int) -> list[int]:
        """The next `count` tokens."""
        if self._at + count > len(self._tokens):
            self._tokens, self._at = self._tokens[1:], 0
        self._at += count
        return self._tokens[self._at - count : self._at]

    def branches(self, work: Workload) -> list[Branch]:
        """Fresh prompts of a workload."""
        shared = self.take(work.prefix)
        return [Branch(shared + self.take(work.own), work.samples) for _ in range(work.branches)]


@dataclass
class Systems:
    """The same weights in everything that is compared."""

    core: Core
    plain: Any  # transformers' model
    text: Text
    gguf: Path | None
    threads: int

    @classmethod
    def of(cls, folder: str | None, longest: int, threads: int, gguf: Path | None) -> "Systems":
        """`gguf`: where to write the weights for llama.cpp; None: it is not compared."""
        plain, ours = load(folder, longest)
        core = Core(ours, make_tokenizer(), CACHE_MEMORY // ours.shape.token_bytes // 16, Limits())
        ours.cache.fill_(0)
        if gguf is not None:
            write_gguf(plain, gguf)
        return cls(core, plain, Text(folder, ours.vocabulary), gguf, threads)

    def llama(self, choice: Choice, work: Workload) -> LlamaCpp:
        """llama.cpp with room for `work`."""
        assert self.gguf is not None
        return LlamaCpp(self.gguf, choice, threads=self.threads, cells=work.distinct, sequences=work.sequences)

    def disagreement(self, generates: bool) -> str:
        """Who does not say greedily what the engine says; "" where all agree."""
        work = Workload("check", CHECK_PROMPT - 64, 64, 2, 1, CHECK_NEW)
        branches = self.text.branches(work)
        ours = run_engine(self.core, branches, work.new, greedy=True)
        if generates and generate(self.plain, branches, work.new, greedy=True) != ours:
            return "transformers"
        for choice in CHOICES if self.gguf else []:
            llama = self.llama(choice, work)
            theirs = llama.generate(branches, work.new, SamplingParams(temperature=0.0))
            llama.close()
            if theirs != ours:
                return f"llama.cpp ({choice})"
        return ""

    def choose(self, work: Workload) -> Choice:
        """The way through llama.cpp that is fastest here, by a run of half the new tokens each."""
        seconds = {}
        for choice in CHOICES:
            llama = self.llama(choice, work)
            branches = self.text.branches(work)
            seconds[choice] = timed(partial(llama.generate, branches, work.new // 2, SamplingParams()))
            llama.close()
        return min(seconds, key=lambda choice: seconds[choice])

    def measure(self, work: Workload, rounds: int, generates: bool, choice: Choice | None) -> dict[str, list[float]]:
        """Seconds of each round, by system."""
        llama = self.llama(choice, work) if choice else None
        hot = SamplingParams()
        warm = Workload("warm", 64, 16 if work.own else 0, work.branches, work.samples, 4)
        run_engine(self.core, self.text.branches(warm), warm.new)
        if llama:
            llama.generate(self.text.branches(warm), warm.new, hot)
        ours: Callable[[list[Branch]], object] = partial(run_engine, self.core, new=work.new)
        ways = {"engine": ours}
        if work.own:
            ways["one level"] = ours
        if llama:
            ways["llama.cpp"] = lambda branches: llama.generate(branches, work.new, hot)
        if generates:
            ways["generate"] = lambda branches: generate(self.plain, branches, work.new)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        usual = self.core.runner.cost
        for turn in range(rounds):
            for name, way in ways.items():
                if name == "generate" and turn:  # it takes by far the longest
                    continue
                self.core.runner.cost = OneLevel(least=work.sequences) if name == "one level" else usual
                seconds[name].append(timed(partial(way, self.text.branches(work))))
        if llama:
            llama.close()
        return seconds


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def machine() -> str:
    """The processor, how many cores are ours, and how busy they were when we began."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


NAMES = {"one level": "the engine, attention sharing one level", "generate": "transformers.generate"}
GOALS = {"llama.cpp": 1.0, "generate": 10.0}


def report(work: Workload, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print one workload; its figures. A ratio is the median over the rounds that both have."""
    print(f"\n{work.name}: {work}")
    rates = {name: work.tokens / statistics.median(found) for name, found in seconds.items()}
    ratios = {
        name: statistics.median(b / a for a, b in zip(seconds["engine"], found, strict=False))
        for name, found in seconds.items()
        if name != "engine"
    }
    for name, rate in rates.items():
        ratio = f"the engine is {ratios[name]:.2f} times as fast" if name in ratios else ""
        print(f"  {NAMES.get(name, name):40s} {rate:9.1f} tokens/s  {ratio}")
    return {
        "name": work.name,
        "workload": str(work),
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "seconds": {name: [round(value, 3) for value in found] for name, found in seconds.items()},
        "engine_over": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `make bench`'s table."""
    return [
        {
            "name": f"engine, {result['name']}",
            "figure": f"{result['tokens_per_second']['engine']:,.0f} tokens/s",
            "baseline": f"{NAMES.get(name, name)}: {result['tokens_per_second'][name]:,.0f} tokens/s",
            "ratio": ratio,
            "goal": f">= {GOALS[name]:g}" if name in GOALS else "",
        }
        for result in results
        for name, ratio in result["engine_over"].items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where greedy text differs."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_engine", *(argv if argv is not None else sys.argv[1:])])
    device = machine()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    lack = "left out" if "llama.cpp" in args.without else missing()
    generates = "generate" not in args.without
    print(f"command   {command}\nmachine   {device}; {args.threads} threads, torch {torch.__version__}")
    if lack:
        print(f"llama.cpp is not compared: {lack}")
    width = (4, 4) if args.quick else (8, 8)
    works = [
        Workload("one prompt", args.prefix, 0, 1, width[0] * width[1], args.new),
        Workload("two levels", args.prefix, args.prefix // 8, width[0], width[1], args.new),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [None] if args.model == "random" else [None, args.model]
        for index, folder in enumerate(folders):
            gguf = None if lack else Path(scratch) / f"{index}.gguf"
            systems = Systems.of(folder, args.prefix * 2 + args.new, args.threads, gguf)
            name = folder or "random weights"
            if differs := systems.disagreement(generates):
                print(f"{name}: greedy text differs from that of {differs}: no figures")
                return 1
            print(f"greedy text of all is the same: {name}", flush=True)
        choice = None if lack else systems.choose(works[0])
        if choice:
            print(f"llama.cpp, the fastest way of {len(CHOICES)} here: {choice}", flush=True)
        results = [report(work, systems.measure(work, args.rounds, generates, choice)) for work in works]
    if args.json:
        figures = {
            "command": command,
            "machine": device,
            "model": args.model if args.model == "random" else Path(args.model).name,
            "threads": args.threads,
            "torch": torch.__version__,
            "llama_cpp": lack or f"{version('llama-cpp-python')}, {choice}",
            "workloads": results,
            "summary": summary(results),
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_engine", *sys.argv[1:]])
    sys.exit(main())
