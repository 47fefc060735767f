"""`docs/models.md`: written from what became of each kind, and read again."""

import re
from collections import Counter
from pathlib import Path

import transformers

from tests.engine.kinds.attempt import Outcome
from tests.engine.kinds.formats import section

PAGE = Path(__file__).parents[3] / "docs" / "models.md"

PLAIN = "nothing special"
TITLES = {
    "served": "Served",
    "refused": "Refused at load, by name",
    "untried": "Not tried",
    "failed": "Wrong",
}
BEGINNING = """# Models that the engine serves

Every kind of causal language model in `transformers` {version}, by its `model_type`, tried at tiny size with random
weights by `python -m tests.engine.kinds`, which writes this page: {counts}.

*Served* means that a checkpoint was loaded and that its greedy text is that of `transformers` with eager attention,
token for token in float32: over a prefix tree of several levels, with prompts in chunks, with guessed tokens that are
right and wrong, and with sequences preempted because the cache is too small. A checkpoint of another size, or of a kind
that is not listed, passes the same gate at load, or is refused in one line that names the feature.

Where a model also takes images or sound (Mistral 3 and 4, Qwen-VL, Gemma 3 and 4, Llama 4, Kimi K2.5, GLM-4.6V), its
text half is served if that is a kind in the first table; the weights of the other half are not loaded.

Limits that the tables do not show:

- Layers with a window keep the keys of what their window may still see, in a pool of their own. A prompt goes on from a
  cached prefix where the window before it is kept: behind an earlier prompt or answer, where prompts branched, and
  elsewhere as long as the pool has room. Layers where an index chooses within a window keep all tokens.
- Where an index chooses the tokens that each token attends to (DeepSeek V3.2, GLM-5), or blocks of them (Qwen4), all
  keys and values stay in the cache, and the index's own keys beside them. Texts no longer than what is chosen, 2,048
  tokens most often, are computed as full attention is. Longer ones share blocks of the cache, but each row reads the
  keys chosen for it on its own, in torch and without CUDA graphs. Of tokens with equal scores the earlier are chosen,
  as `torch.topk` does on a GPU; on a CPU its choice depends on the length of the text. `--batch-invariant` is refused
  for contexts longer than what is chosen.
- DeepSeek V4 attends to a window and to entries that stand for 4 or 128 tokens each. Entries are kept for all tokens,
  and what they are made of as long as the window is. Rows read their entries in torch and without CUDA graphs;
  `--batch-invariant` is refused.
- Latent attention (DeepSeek, Kimi K2, GLM-4.7-Flash, Mistral 4, MiniCPM 3) caches latents alone, and all heads attend
  over them. Each process of `--tensor-parallel` has them whole.
- Layers with a recurrent state (linear attention, state spaces, short convolutions) are computed by `transformers`' own
  code: in torch, and on a GPU by the kernels of flash-linear-attention (extra `recurrent`), causal-conv1d and mamba-ssm
  where those are installed and agree with torch at load; the log says which. Single tokens of a gated delta rule
  (Qwen3-Next, Qwen3.5, Qwen4, Kimi-Linear, OLMo Hybrid), of state spaces (Mamba, Mamba 2: Nemotron-H, Granite 4,
  Falcon-H1, Bamba, Zamba 2, Jamba) and of short convolutions are computed in the pool of states by kernels of ours
  where these agree: in C on a CPU with AVX-512 BF16, by Triton on a GPU, on which they have not run yet. A prompt goes
  on only from a snapshot of the state: behind an earlier prompt, where prompts branched, or after as many tokens as
  have keys and values of a snapshot's size. Guessed tokens that were right are computed a second time.
  `--batch-invariant` computes a prompt token by token there, and guesses nothing. A checkpoint of the Mamba 2 kind with
  time steps below its `time_step_min` is refused where `transformers` itself computes single tokens otherwise than
  texts (Nemotron-H, Zamba 2).
- `--tensor-parallel` goes by the plans of `transformers`. Of experts each process has some of the features of each;
  layers with a recurrent state, their states, and attention that a plan does not split (Granite MoE, OLMoE) are whole
  in each. Refused are plans that split the embedding alone (Bamba, Falcon-H1, LFM2), kinds without a
  plan (Mamba, Zamba, GPT-2), and Sarvam MoE, whose checkpoints hold queries, keys and values in one weight; gpt-oss,
  HunYuan and Emu3 have plans of our own.
- Experts that `transformers` computes in a loop of their own (DBRX, LongCat, JetMoe) wait for the GPU in each layer, so
  that such models are decoded without CUDA graphs, and `--batch-invariant` does not hold for them in float32 on a CPU.
- Where layers have keys of different widths or numbers, all take the memory of the largest.
- Phi-3 and others with longrope are served up to the length at which their positions change (`--max-model-len`).
- Encoders such as BERT are served only as the decoders that `is_decoder` makes of them.
"""


def counts(outcomes: dict[str, Outcome]) -> str:
    """How many of each status, in words."""
    found = Counter(outcome.status for outcome in outcomes.values())
    return ", ".join(f"{found[status]} {status}" for status in TITLES if found[status]) + f" of {len(outcomes)}"


def page(outcomes: dict[str, Outcome]) -> str:
    """The page."""
    parts = [BEGINNING.format(version=transformers.__version__, counts=counts(outcomes))]
    for status, title in TITLES.items():
        words: dict[str, list[str]] = {}
        for kind, outcome in sorted(outcomes.items()):
            if outcome.status == status:
                words.setdefault(outcome.words or PLAIN, []).append(kind)
        if words:
            head = "what they use" if status == "served" else "why"
            rows = sorted(words.items(), key=lambda each: (-len(each[1]), each[0]))
            lines = [f"| {cell(why)} | {' '.join(f'`{kind}`' for kind in kinds)} |" for why, kinds in rows]
            parts.append("\n".join([f"\n## {title}\n", f"| {head} | kinds |", "|---|---|", *lines, ""]))
    return "".join([*parts, section()])


def cell(text: str) -> str:
    """Text that ends no cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def read() -> tuple[str, dict[str, Outcome]]:
    """The version of `transformers` that the page is about, and what became of each kind."""
    text = PAGE.read_text()
    version = re.search(r"`transformers` ([\w.]+)", text)
    assert version is not None
    found: dict[str, Outcome] = {}
    for status, title in TITLES.items():
        section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for line in section.splitlines():
            if line.startswith("| ") and line.count(" | ") >= 1:
                why, kinds = line.removeprefix("| ").rsplit(" | ", 1)
                why = why.replace("\\|", "|").replace("&lt;", "<")
                outcome = Outcome(status, "" if why == PLAIN else why)
                found |= dict.fromkeys(re.findall(r"`([\w.-]+)`", kinds), outcome)
    return version[1], found
