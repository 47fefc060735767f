"""Real weights (SmolLM2-135M-Instruct) on real text, against `transformers`."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import OpenAI
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.loop import EngineLoop
from engine.model.model import Model
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams
from engine.server.api import create_app
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost
from tests.engine.server.serving import serve
from tests.engine.test_greedy import SHARING, greedy
from tests.patience import PATIENCE

pytestmark = [pytest.mark.service, pytest.mark.slow]

CASES = Path(__file__).parent.parent / "demo" / "cases"
LENGTH = 12  # tokens that are generated
TIE = 1e-3  # between logits: closer ones may be ordered either way in float32
# Errors of log-probabilities in bfloat16 against float32: as much as `transformers` makes, and this much more for
# chance.
FACTOR = 1.25

Engine = Callable[..., Core]


@pytest.fixture(scope="module")
def folder(smollm2_folder: Path) -> str:
    return str(smollm2_folder)


@pytest.fixture(scope="module")
def tokenizer(folder: str) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def make(folder: str, tokenizer: Tokenizer) -> Engine:
    """Engines of one model a dtype, loaded once."""
    models: dict[str, Model] = {}

    def core(dtype: str = "float32", cost: int = 0, max_draft: int = 0) -> Core:
        if dtype not in models:
            models[dtype] = Model.load(folder, dtype, "cpu")
        return Core(models[dtype], tokenizer, 1500, Limits(max_draft=max_draft), RunOptions(CutCost(cost)))

    return core


class Truth:
    """The results of `transformers`, each text computed once."""

    def __init__(self, folder: str, dtype: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self._margins: dict[tuple[int, ...], torch.Tensor] = {}
        self._log_probabilities: dict[tuple[int, ...], torch.Tensor] = {}

    @torch.inference_mode()
    def _logits(self, tokens: list[int], last: int) -> torch.Tensor:
        """Those of the last tokens, `[last, vocabulary]` float32."""
        return self._model(torch.tensor([tokens]), logits_to_keep=last).logits[0].float()

    def margins(self, prompt: list[int], output: list[int]) -> torch.Tensor:
        """How far each output token's logit is below the best at its place: 0 where it is the best."""
        key = (*prompt, *output)
        if key not in self._margins:
            rows = self._logits([*prompt, *output[:-1]], len(output))
            self._margins[key] = rows.amax(-1) - rows.gather(1, torch.tensor(output)[:, None])[:, 0]
        return self._margins[key]

    def log_probabilities(self, tokens: list[int]) -> torch.Tensor:
        """Of each token but the first."""
        key = tuple(tokens)
        if key not in self._log_probabilities:
            scores = torch.log_softmax(self._logits(tokens, len(tokens)), dim=-1)
            self._log_probabilities[key] = scores[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
        return self._log_probabilities[key]


@pytest.fixture(scope="module")
def truth(folder: str) -> Callable[[str], Truth]:
    """By dtype."""
    return functools.cache(functools.partial(Truth, folder))


@pytest.fixture(scope="module")
def texts(tokenizer: Tokenizer) -> list[list[int]]:
    """32 prompts: a file of source code, then one of four other files, then a line of its own."""
    files = [path.read_text() for path in sorted(CASES.glob("*/repository/*/*.py")) if path.stat().st_size > 300]
    lines = [line for text in files for line in text.splitlines() if len(line) > 8]
    first = tokenizer.encode(files[0][:400])
    return [first + tokenizer.encode(f"\n{files[1 + i % 4][:120]}\n{lines[i % len(lines)]}") for i in range(32)]


@pytest.mark.parametrize("count", [1, 7, 32])
@SHARING
def test_greedy_text_is_transformers(
    make: Engine, truth: Callable[[str], Truth], texts: list[list[int]], count: int, cost: int
):
    requests = [greedy(text, LENGTH) for text in texts[:count]]
    core = make(cost=cost)
    core.run(requests)
    core.scheduler.check_integrity()
    for request in requests:
        output = request.sequences[0].tokens[len(request.prompt) :]
        assert truth("float32").margins(request.prompt, output).max() < TIE


def test_samples_of_one_prompt_are_equal(make: Engine, texts: list[list[int]]):
    """64 greedy children of one prompt, which is computed once."""
    core = make()
    request = greedy(texts[0], LENGTH, n=64)
    core.run([request])
    assert len({tuple(sequence.tokens) for sequence in request.sequences}) == 1
    assert core.scheduler.counters.computed_tokens == len(texts[0])


@SHARING
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_log_probabilities_are_as_good_as_transformers(
    make: Engine, truth: Callable[[str], Truth], texts: list[list[int]], cost: int, dtype: str
):
    params = SamplingParams(max_tokens=4, temperature=1.0, seed=3, ignore_eos=True, logprobs=0, prompt_logprobs=0)
    requests = [Request(list(text), params) for text in texts[:3]]
    outputs = make(dtype, cost).run(requests)
    ours, theirs = [], []
    for request in requests:
        entries = list(request.prompt_logprobs)
        entries += [entry for output in outputs if output.request is request for entry in output.logprobs]
        tokens = request.sequences[0].tokens
        found = torch.tensor([entry.logprob for entry in entries])
        exact, rounded = (truth(one).log_probabilities(tokens) for one in ("float32", dtype))
        ours.append(found - exact)
        theirs.append(rounded - exact)
    error, natural = torch.cat(ours), torch.cat(theirs)
    assert error.abs().mean() < FACTOR * natural.abs().mean()
    assert error.abs().max() < 2 * natural.abs().max()


def test_speculation_changes_no_text_and_is_accepted_on_code(make: Engine, tokenizer: Tokenizer):
    """The model writes a file once more, as edits do."""
    source = (CASES / "3-groups" / "repository" / "shop" / "tickets.py").read_text()
    prompt = tokenizer.encode(f"{source}\n\n{source[: len(source) // 3]}")
    replies = []
    for drafts in (0, 32):
        core = make(max_draft=drafts)
        request = greedy(prompt, 80)
        core.run([request])
        replies.append(request.sequences[0].tokens[len(prompt) :])
    assert replies[0] == replies[1]
    counters = core.scheduler.counters
    assert counters.accepted_tokens >= 40
    assert counters.accepted_tokens >= counters.drafted_tokens / 2


@pytest.fixture(scope="module", params=["float32", "float16"])
def client(make: Engine, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    app = create_app(EngineLoop(make(request.param, max_draft=8), threads=1), "smollm2")
    with serve(app) as url, OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE) as client:
        yield client


QUESTIONS = {"What is the capital of France?": "Paris", "Which planet do we live on?": "Earth"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_right(client: OpenAI, question: str):
    messages: list[Any] = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=40, temperature=0)
    (choice,) = answer.choices
    assert QUESTIONS[question] in (choice.message.content or "")
    assert choice.finish_reason == "stop"  # its end token ends it
    assert "<|im_end|>" not in (choice.message.content or "")
