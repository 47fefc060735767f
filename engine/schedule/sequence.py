"""The nouns of generation: what is asked for, what runs, what comes out."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from engine.cache.prefix_tree import Path
from engine.schedule.said import Said
from engine.text.output import OutputText

if TYPE_CHECKING:
    from engine.text.grammar import Guide

FinishReason = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True)
class SamplingParams:
    """How one request samples. Filters apply in the order temperature, top-k, top-p (of what top-k left), min-p."""

    temperature: float = 1.0  # below 1e-5: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    seed: int = 0  # of child 0; child i uses seed + i
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None  # alternatives reported per token; None: no log-probabilities at all
    prompt_logprobs: int | None = None  # the same for the tokens of the prompt, which is then computed anew
    # What `engine.run.adjustments` does, before the temperature:
    min_tokens: int = 0  # nothing ends the text before
    logit_bias: tuple[tuple[int, float], ...] = ()  # added, by token; each token once
    repetition_penalty: float = 1.0  # of what is in the prompt or was said
    frequency_penalty: float = 0.0  # of what was said, for each time
    presence_penalty: float = 0.0  # of what was said
    bad_words: tuple[tuple[int, ...], ...] = ()  # tokens that are never said in a row

    @cached_property
    def penalizes(self) -> bool:
        """Whether what was said counts."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)

    @cached_property
    def adjusts(self) -> bool:
        """Whether the model's logits are changed."""
        return bool(self.penalizes or self.min_tokens or self.logit_bias or self.bad_words)

    def ends(self, end_tokens: frozenset[int]) -> frozenset[int]:
        """Tokens that end the text, given those of the model."""
        return self.stop_token_ids if self.ignore_eos else self.stop_token_ids | end_tokens


@dataclass(frozen=True)
class TokenLogprob:
    """A sampled token and its alternatives with their log-probabilities under the model (temperature 1, no filter)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int = 0  # of the token, 1 for the likeliest; 0: not asked for, as for sampled ones


@dataclass(frozen=True)
class Output:
    """What one step added to one child of a request: text since the last output, complete where the child finished."""

    request: "Request"
    index: int
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    tokens: tuple[int, ...] = ()  # since the last output, where the request wants them
    error: Exception | None = None  # the request as a whole failed


class State(enum.Enum):
    """What a sequence is doing."""

    WAITING = enum.auto()  # holds no block
    RUNNING = enum.auto()  # holds the blocks of its table; prefilling while more than one token is not computed
    FINISHED = enum.auto()  # holds no block, will never run again


@dataclass(eq=False)
class Request:
    """One prompt and its `n` children."""

    prompt: list[int]
    params: SamplingParams
    n: int = 1
    stream: bool = False
    guide: "Guide | None" = None  # at the beginning of the grammar that each child must follow
    client: str = ""  # requests of one client share its turns (`engine.schedule.turns`)
    id: str = ""
    returns_tokens: bool = False  # whether outputs have the tokens
    named_tokens: Mapping[int, str] = field(default_factory=dict)  # special tokens that are part of the text
    notify: Callable[[Output], None] | None = None  # called on the event loop, see `engine.loop`
    sequences: "list[Sequence]" = field(default_factory=list)
    cached_tokens: int | None = None  # prompt tokens that were not computed for this request; None: not yet admitted
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)  # of all prompt tokens but the first
    _chain: list[int] = field(default_factory=list)
    _path: Path | None = None

    @cached_property
    def prompt_tokens(self) -> frozenset[int]:
        """The different tokens of the prompt."""
        return frozenset(self.prompt)

    @property
    def completion_tokens(self) -> int:
        """Tokens sampled so far, by all children, the end token included."""
        return sum(sequence.generated for sequence in self.sequences)

    def chain(self, block_size: int) -> list[int]:
        """Hash of each block-wise prefix of the prompt, then of all of it: equal prefixes have equal entries."""
        if not self._chain:
            last = 0
            for end in range(block_size, len(self.prompt) + 1, block_size):
                last = hash((last, tuple(self.prompt[end - block_size : end])))
                self._chain.append(last)
            self._chain.append(hash((last, tuple(self.prompt), "whole")))
        return self._chain

    def path(self, block_size: int) -> Path:
        """Where its prompt is in the cache's tree."""
        if self._path is None:
            self._path = Path(len(self.prompt) // block_size)
        return self._path

    @property
    def finished(self) -> bool:
        """Whether all children are finished."""
        return all(sequence.state is State.FINISHED for sequence in self.sequences)


@dataclass(eq=False)
class Sequence:
    """One child of a request. Only the engine's thread changes it."""

    request: Request
    index: int
    tokens: list[int]  # prompt, then output
    arrival: int  # order of submission
    text: OutputText
    guide: "Guide | None" = None  # position of its output in the grammar
    state: State = State.WAITING
    table: list[int] = field(default_factory=list)  # blocks, in order
    computed: int = 0  # leading tokens whose keys and values are in the cache
    logprobs: list[TokenLogprob] = field(default_factory=list)  # not yet reported
    told: int = 0  # sampled tokens that were reported
    finish_reason: FinishReason | None = None
    draftable: bool = True  # whether tokens may be drafted for it
    slot: int = -1  # of its recurrent state while it runs, where the model has one
    marks: list[int] = field(default_factory=list)  # numbers of tokens behind which to leave a snapshot of it
    marked: int = 0  # tokens before the last snapshot
    lows: list[int] = field(default_factory=list)  # first blocks that layers with a window need, see `Windows`
    placed: int = 0  # blocks of the table that have had a place in those layers
    _said: Said | None = None

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt)

    @property
    def generated(self) -> int:
        """Tokens sampled."""
        return len(self.tokens) - len(self.request.prompt)

    def said(self) -> Said:
        """How often each token was sampled. Do not change it."""
        if self._said is None:
            self._said = Said(self.request.prompt_tokens)
        self._said.add(self.tokens[self.prompt_length + self._said.total :])
        return self._said

    @property
    def remaining(self) -> int:
        """Tokens that may still be sampled."""
        return self.request.params.max_tokens - self.generated

    @property
    def prefilling(self) -> bool:
        """Whether more than the last token is yet to be computed."""
        return self.computed < len(self.tokens) - 1

    @property
    def scoring(self) -> bool:
        """Whether this sequence still has to compute log-probabilities of the prompt."""
        request = self.request
        wanted = self.index == 0 and request.params.prompt_logprobs is not None
        return wanted and len(request.prompt_logprobs) < len(request.prompt) - 1

    @cached_property
    def seed(self) -> int:
        """Seed of this child."""
        return self.request.params.seed + self.index
