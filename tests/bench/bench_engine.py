"""The engine against `transformers.generate` on the same weights, threads and run.

    python -m tests.bench.bench_engine [--quick] [--json FILE]

64 samples over a prefix of 2,048 tokens, 128 new tokens each, random weights in the shape of the bundled model. No
ratio is printed unless the engine's greedy text equals `transformers`' first.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from engine.attention import NAME
from engine.core import Core
from engine.model import Model
from engine.scheduler import Limits
from engine.sequence import Request, SamplingParams
from engine.tokenizer import Tokenizer

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


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_engine", description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=2048, help="tokens")
    parser.add_argument("--new", type=int, default=128, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="of both, one after the other; the best of each counts")
    parser.add_argument("--model", help="a folder; default: random weights in the bundled model's shape")
    parser.add_argument("--quick", action="store_true", help="16 samples, 1,024 tokens, 32 new, one round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.samples, args.prefix, args.new, args.rounds = 16, 1024, 32, 1
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


def generate(model: Any, prompt: list[int], new: int, samples: int, greedy: bool = False) -> torch.Tensor:
    """`transformers`' own generation; returns the new tokens `[samples, new]`."""
    config = GenerationConfig(
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=not greedy,
        temperature=None if greedy else 1.0,
        top_k=0 if not greedy else None,
        num_return_sequences=samples,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=config)
    found: torch.Tensor = output[:, len(prompt) :]
    return found


def run_engine(core: Core, prompt: list[int], new: int, samples: int, greedy: bool = False, seed: int = 0) -> Request:
    """One request with `samples` choices, to its end."""
    params = SamplingParams(temperature=0.0 if greedy else 1.0, max_tokens=new, ignore_eos=True, seed=seed)
    request = Request(prompt, params, n=samples)
    core.run([request])
    return request


def check_greedy(core: Core, model: Any, prompt: list[int], new: int) -> bool:
    """Whether both say the same, token for token."""
    ours = run_engine(core, prompt, new, 2, greedy=True)
    theirs = generate(model, prompt, new, 1, greedy=True)[0].tolist()
    return all(sequence.tokens[len(prompt) :] == theirs for sequence in ours.sequences)


def machine() -> str:
    """The processor, how many cores are ours, and how busy they were when we began."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where greedy text differs."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_engine", *(argv if argv is not None else sys.argv[1:])])
    device = machine()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    model, ours = load(args.model, args.prefix + args.new + 64)
    core = Core(ours, make_tokenizer(), 1 + (args.prefix + args.samples * (args.new + 64)) // 16 * 2, Limits())
    generator = torch.Generator().manual_seed(1)

    def prompt(length: int) -> list[int]:
        return torch.randint(1, ours.vocabulary, (length,), generator=generator).tolist()

    print(f"command   {command}\nmachine   {device}; {args.threads} threads, torch {torch.__version__}")
    print(f"workload  {args.samples} samples of {args.new} tokens over a prompt of {args.prefix}, temperature 1")
    if not check_greedy(core, model, prompt(args.prefix // 4), 32):
        print("greedy text differs from transformers': no figures")
        return 1
    run_engine(core, prompt(64), 8, args.samples)
    generate(model, prompt(64), 8, args.samples)

    tokens = args.samples * args.new
    best = {"engine": float("inf"), "generate": float("inf")}
    for turn in range(args.rounds):
        text = prompt(args.prefix)
        begin = time.perf_counter()
        run_engine(core, text, args.new, args.samples, seed=turn * 1000)
        best["engine"] = min(best["engine"], time.perf_counter() - begin)
        begin = time.perf_counter()
        generate(model, text, args.new, args.samples)
        best["generate"] = min(best["generate"], time.perf_counter() - begin)
    rates = {name: tokens / seconds for name, seconds in best.items()}
    ratio = rates["engine"] / rates["generate"]
    print(f"engine    {rates['engine']:9.1f} tokens/s")
    print(f"generate  {rates['generate']:9.1f} tokens/s (transformers, num_return_sequences={args.samples})")
    print(f"ratio     {ratio:9.1f}")
    if args.json:
        figures = {
            "command": command,
            "machine": device,
            "threads": args.threads,
            "torch": torch.__version__,
            "samples": args.samples,
            "prefix_tokens": args.prefix,
            "new_tokens": args.new,
            "engine_tokens_per_second": round(rates["engine"], 1),
            "generate_tokens_per_second": round(rates["generate"], 1),
            "ratio": round(ratio, 2),
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as `python -m engine` sets it; too late for this process, torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_engine", *sys.argv[1:]])
    sys.exit(main())
