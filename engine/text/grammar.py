"""Answers that follow a grammar: OpenAI's `response_format`, and `structured_outputs` as vLLM names it, by llguidance.

Before a token is sampled, the tokens that the grammar does not allow next get logits of minus infinity; temperature,
filters and random numbers are as without one. Log-probabilities are still the model's own. Drafted tokens must follow
the grammar as well, so that speculation changes nothing.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import RequestError
from engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

MAX_CHARACTERS = 1 << 20  # of a grammar
FUEL = (
    100_000  # for the first step: a tenth of llguidance's limit, at which (a{1000}){1000} keeps the engine for seconds
)
WAYS = 8192  # in which a text may go on: more than the texts of a list of choices
KEPT = 64  # compiled grammars that are kept: samples of one run share theirs
SPACE = r"[ \n]{0,40}"  # between the parts of JSON: a weak model might write blanks forever
PART = 64  # rows whose masks are expanded at once: 40 MB at 150,000 tokens

Kind = Literal["json", "regex", "choice", "lark", "parts"]


@dataclass(frozen=True)
class Grammar:
    """A grammar that an answer must follow."""

    kind: Kind
    # A JSON schema; a regular expression; a JSON list of texts; a grammar in llguidance's dialect of Lark; or a list in
    # JSON of such a grammar, and kind and text of another that it names `@content`.
    text: str
    field: str  # of the request, which errors name

    def source(self) -> str:
        """The grammar in llguidance's form.

        Raises:
            RequestError: a JSON schema is not an object.
        """
        from llguidance import LLMatcher

        if self.kind == "json":
            try:
                return str(LLMatcher.grammar_from_json_schema(self.text, overrides={"whitespace_pattern": SPACE}))
            except ValueError as error:
                raise RequestError(f"the JSON schema can't be used: {error}", self.field) from error
        if self.kind == "regex":
            return str(LLMatcher.grammar_from_regex(self.text))
        if self.kind == "choice":
            choices = [json.dumps(choice, ensure_ascii=False) for choice in json.loads(self.text)]
            return str(LLMatcher.grammar_from_lark("start: " + " | ".join(choices)))
        if self.kind == "parts":
            start, kind, text = json.loads(self.text)
            return json.dumps({"grammars": [{"lark_grammar": start}, _named(Grammar(kind, text, self.field).source())]})
        return str(LLMatcher.grammar_from_lark(self.text))


def _named(source: str) -> dict[str, Any]:
    """A grammar as a part `content` of another: llguidance writes Lark as it is, other grammars in JSON."""
    try:
        found: dict[str, Any] = json.loads(source)["grammars"][0]
    except (ValueError, TypeError, KeyError):
        found = {"lark_grammar": source}
    return found | {"name": "content"}


class Guide:
    """The position of one sequence in its grammar. Only one thread may use it at a time."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self.matcher = matcher

    def fork(self) -> "Guide":
        """A copy at the same position. Caches of the grammar are shared."""
        return Guide(self.matcher.deep_copy())

    def take(self, token: int) -> None:
        """Advance by a sampled token."""
        self.matcher.consume_token(token)

    @property
    def ended(self) -> bool:
        """Whether the grammar allows no more tokens."""
        return bool(self.matcher.is_stopped())

    @property
    def problem(self) -> str:
        """Why the grammar can't be followed any further, if so, e.g. because it is too complex."""
        return str(self.matcher.get_error()).partition("\n")[0]


class Guided(NamedTuple):
    """A guide, the row of logits that its next token is sampled from, and the tokens drafted for the rows behind."""

    guide: Guide
    row: int
    draft: Sequence[int]


class Grammars:
    """Compiles grammars for one tokenizer. Only one thread may use it at a time."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end_tokens: Iterable[int]) -> None:
        """
        Args:
            tokenizer: of the model.
            vocabulary: width of its logits.
            end_tokens: that end a text.
        """
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = sorted(end_tokens)
        self._compiled: OrderedDict[Grammar, Guide] = OrderedDict()

    def compile(self, grammar: Grammar) -> Guide:
        """A guide at the beginning of the grammar.

        Raises:
            RequestError: the grammar can't be understood, or is too complex.
        """
        if grammar not in self._compiled:
            self._compiled[grammar] = self._compile(grammar)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return self._compiled[grammar].fork()

    def _compile(self, grammar: Grammar) -> Guide:
        try:
            from llguidance import LLMatcher, LLParserLimits
        except ImportError as error:  # an engine may be installed without it
            raise RequestError("grammars need a package: pip install llguidance", grammar.field) from error

        if len(grammar.text) > MAX_CHARACTERS:
            raise RequestError(f"the grammar is longer than {MAX_CHARACTERS} characters", grammar.field)
        source = grammar.source()
        limits = LLParserLimits(initial_lexer_fuel=FUEL, max_items_in_row=WAYS)
        guide = Guide(LLMatcher(self._vocabulary_trie, source, log_level=0, limits=limits))
        if guide.problem:
            raise RequestError(f"the grammar can't be used: {guide.problem}", grammar.field)
        return guide

    @cached_property
    def _vocabulary_trie(self) -> "LLTokenizer":
        """Bytes of all tokens. If the tokenizer does not list them, llguidance derives them from the tokenizer."""
        from llguidance import LLTokenizer, TokenizerWrapper
        from llguidance.hf import from_tokenizer

        tokens = self._tokenizer.bytes_of_tokens
        ends = self._ends or [self._tokenizer.eos_token_id or 0]
        if tokens is None:
            return from_tokenizer(self._tokenizer.inner, n_vocab=self._vocabulary, eos_token=ends)
        padded = [*tokens, *[b""] * self._vocabulary][: self._vocabulary]
        return LLTokenizer(TokenizerWrapper(_Vocabulary(self._tokenizer, padded, ends[0])), eos_token=ends)


class _Vocabulary:
    """A tokenizer in the form that llguidance's wrapper needs."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, tokens: list[bytes], end: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end
        # Tokens without bytes would be allowed anywhere; as special tokens with unique names they are not.
        self.special_token_ids = [token for token, text in enumerate(tokens) if not text]
        self.tokens = [text or f"<|token {token}|>".encode() for token, text in enumerate(tokens)]

    def __call__(self, text: Any) -> list[int]:
        return self._tokenizer.encode(text.decode() if isinstance(text, bytes) else text, special=False)


@cache
def _executor() -> "LLExecutor":
    from llguidance import LLExecutor

    return LLExecutor()


@torch.inference_mode()
def masked(logits: Tensor, guided: Sequence[Guided]) -> Tensor:
    """The logits with minus infinity where a grammar does not allow the token.

    Args:
        logits: `[rows, vocabulary]` float32; unchanged.
        guided: whose rows follow a grammar; the row of a sequence's next token, then one for each drafted token.
    """
    from llguidance.numpy import (
        allocate_token_bitmask,
        fill_next_token_bitmask_par,
        fill_next_token_bitmask_par_with_draft_tokens,
    )

    rows = [one.row + offset for one in guided for offset in range(1 + len(one.draft))]
    bits = allocate_token_bitmask(len(rows), logits.shape[1])  # all allowed: for rows behind a refused draft
    first, plain, drafted = 0, [], []
    for guide, _, draft in guided:
        if draft:
            drafted.append((guide.matcher, first, list(draft)))
        else:
            plain.append((guide.matcher, first))
        first += 1 + len(draft)
    if plain:
        fill_next_token_bitmask_par(_executor(), plain, bits)
    if drafted:
        fill_next_token_bitmask_par_with_draft_tokens(_executor(), drafted, bits)
    result = logits.clone()
    shifts = torch.arange(32, device=logits.device, dtype=torch.int32)
    for begin in range(0, len(rows), PART):
        index = torch.tensor(rows[begin : begin + PART], device=logits.device)
        words = torch.from_numpy(bits[begin : begin + PART].view(np.int32)).to(logits.device)
        refused = (words[:, :, None].bitwise_right_shift(shifts) & 1).flatten(1)[:, : logits.shape[1]] == 0
        result[index] = result[index].masked_fill_(refused, -torch.inf)
    return result
