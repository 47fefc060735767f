"""An engine whose model says what a test wants, over real HTTP with real templates and tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from tokenizers import AddedToken
from torch import Tensor

from engine.core import Core
from engine.loop import EngineLoop
from engine.run.outputs import Row, Sampled
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request
from engine.server.api import create_app
from engine.server.service import Serving
from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import END, copy_into_engine, make_tokenizer, make_weights
from tests.engine.server.serving import serve

SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]", "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
           "<|call|>", "<|return|>")  # fmt: skip

# Short forms of what models bring; `<|end|>` ends their texts here.
_TURNS = (
    "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>"
    "{% if m.role == 'tool' %}RESULT {% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}CALLED {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
    "<|end|>{% endfor %}"
)
_TOOLS = "{% if tools %}<|system|>{% for t in tools %}{{ t | tojson }}{% endfor %}<|end|>{% endif %}"
_BEGIN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
HERMES = f"{_TOOLS}{{# <tool_call> #}}{_TURNS}{_BEGIN}"
THINKING = (
    f"{HERMES}{{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}}"
    "<think>\n\n</think>\n\n{% endif %}"
)
ALWAYS_THINKING = f"{HERMES}{{% if add_generation_prompt %}}<think>\n{{% endif %}}"
MISTRAL = f"{_TOOLS}{{# [TOOL_CALLS] [ARGS] [THINK] #}}{_TURNS}{_BEGIN}"
HARMONY = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    f"Reasoning: {{{{ reasoning_effort }}}}{_TOOLS}{{# <|channel|> <|message|> #}}{_TURNS}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@cache
def _weights(seed: int, vocabulary: int, end: int) -> Any:
    return make_weights(seed=seed, vocab_size=vocabulary, max_position_embeddings=2048, eos_token_id=end)


def tokenizer_of(template: str) -> Tokenizer:
    """The tests' tokenizer with a chat template, and special tokens of several families."""
    inner = make_tokenizer()
    inner.add_tokens([AddedToken(text, special=True) for text in SPECIAL])
    inner.chat_template = template
    return Tokenizer(inner)


class Parrot(Core):
    """Says `reply(prompt)`; a reply may spell special tokens."""

    reply: Callable[[str], str]
    words: WeakKeyDictionary[Request, list[int]]  # of the replies

    def _sample(self, rows: list[Row], logits: Tensor) -> tuple[Sampled, list[int]]:
        tokens = [self._said(row.sequence.request, row.sequence.generated + row.offset) for row in rows]
        return Sampled(rows, logits, torch.tensor(tokens), tokens), [1] * len(rows)

    def _said(self, request: Request, place: int) -> int:
        words = self.words.get(request)
        if words is None:
            text = type(self).reply(self.tokenizer.text(request.prompt))
            words = self.words[request] = [*self.tokenizer.encode(text, special=False), min(self.model.end_tokens)]
        return words[min(place, len(words) - 1)]


def random_core(template: str, seed: int = 0) -> Core:
    """A random model behind a template."""
    tokenizer = tokenizer_of(template)
    end = tokenizer.special_tokens["<|return|>"] if template == HARMONY else END  # there, <|end|> ends a message
    model = copy_into_engine(_weights(seed, len(tokenizer.inner), end))
    return Core(model, tokenizer, 600, Limits(8, prefill_chunk=64))


@contextmanager
def parroting(template: str, reply: Callable[[str], str], serving: Serving | None = None) -> Iterator[str]:
    """Serve a model that answers each prompt with `reply(prompt)`; the base URL inside."""
    core = random_core(template)
    kind: Any = type("Said", (Parrot,), {"reply": staticmethod(reply)})
    core.__class__, core.words = kind, WeakKeyDictionary()  # type: ignore[attr-defined]
    with serve(create_app(EngineLoop(core, threads=1), "tiny", serving=serving)) as url:
        yield url
