"""From sampled tokens to outputs: a sequence takes the tokens that match its draft and one more."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from engine.errors import RequestError
from engine.run.sampling import Draw
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import FinishReason, Output, Sequence, TokenLogprob
from engine.schedule.step import Chunk, Step
from engine.text.grammar import Guided, masked


class Row(NamedTuple):
    """One row of logits: what follows a sequence's last token and the first `offset` tokens of its draft."""

    chunk: Chunk
    offset: int

    @property
    def sequence(self) -> Sequence:
        """The sequence whose next token is sampled."""
        return self.chunk.sequence

    @property
    def draw(self) -> Draw:
        """How its token is sampled: the same with and without drafts."""
        sequence = self.chunk.sequence
        return Draw(sequence.request.params, sequence.seed, sequence.generated + self.offset)


def sampled_rows(step: Step) -> list[Row]:
    """The rows of a step that are sampled: of its chunks, then of the sequences that are ready."""
    chunks = [chunk for chunk in step.chunks if chunk.samples] + [Chunk(sequence, 0) for sequence in step.ready]
    return [Row(chunk, offset) for chunk in chunks for offset in range(1 + len(chunk.draft))]


def allowed(rows: list[Row], logits: Tensor) -> Tensor:
    """The logits `[rows, vocabulary]`, with minus infinity for tokens that a sequence's grammar does not allow."""
    guided = [
        Guided(row.sequence.guide, index, row.chunk.draft)
        for index, row in enumerate(rows)
        if row.sequence.guide is not None and row.offset == 0
    ]
    return masked(logits, guided) if guided else logits


@dataclass(frozen=True)
class Sampled:
    """The rows of a step with their tokens."""

    rows: list[Row]
    logits: Tensor  # [rows, vocabulary] float32
    chosen: Tensor  # [rows] int64, the tokens
    tokens: list[int]  # the same as plain numbers

    def keep(self, index: list[int]) -> "Sampled":
        """Only these rows."""
        rows, tokens = [self.rows[at] for at in index], [self.tokens[at] for at in index]
        return Sampled(rows, self.logits[index], self.chosen[index], tokens)

    def chunks(
        self, entries: list[TokenLogprob | None]
    ) -> Iterator[tuple[Chunk, list[int], list[TokenLogprob | None]]]:
        """Each chunk with its rows' tokens, and those of `entries` that are of its rows."""
        begin = 0
        while begin < len(self.rows):
            chunk = self.rows[begin].chunk
            end = begin + 1 + len(chunk.draft)
            yield chunk, self.tokens[begin:end], entries[begin:end]
            begin = end


class Writer:
    """Adds sampled tokens to their sequences."""

    def __init__(self, scheduler: Scheduler, end_tokens: frozenset[int]) -> None:
        """
        Args:
            scheduler: of the sequences.
            end_tokens: tokens that end a text.
        """
        self._scheduler = scheduler
        self._end_tokens = end_tokens

    def take(self, chunk: Chunk, tokens: list[int], entries: list[TokenLogprob | None]) -> Output | None:
        """Add tokens to their sequence as long as they are those of its draft, and one behind.

        Args:
            chunk: computed and counted, see `Scheduler.advance`.
            tokens: sampled for each of its rows.
            entries: what is reported of each token, if anything.

        Returns:
            An output, where there is something to tell.
        """
        sequence, _, draft = chunk
        reason: FinishReason | None = None
        for offset, (token, entry) in enumerate(zip(tokens, entries, strict=True)):
            if entry is not None:
                sequence.logprobs.append(entry)
            reason = self._push(sequence, token)
            hit = offset < len(draft) and token == draft[offset]
            if hit:
                self._scheduler.accept(sequence)
            if reason is not None or not hit:
                break
        if sequence.guide is not None and sequence.guide.problem:
            return self._give_up(sequence, sequence.guide.problem)
        if reason is not None:
            self._scheduler.finish(sequence, reason)
        elif not sequence.request.stream:
            return None
        text = sequence.text.take(last=reason is not None)
        if not text and reason is None and not sequence.logprobs:
            return None
        reported, sequence.logprobs = tuple(sequence.logprobs), []
        fresh: tuple[int, ...] = ()
        if sequence.request.returns_tokens:
            fresh = tuple(sequence.tokens[sequence.prompt_length + sequence.told :])
            sequence.told = sequence.generated
        return Output(sequence.request, sequence.index, text, reported, reason, fresh)

    def _push(self, sequence: Sequence, token: int) -> FinishReason | None:
        """Add a token to its sequence; whether and why it is the last."""
        params = sequence.request.params
        sequence.tokens.append(token)
        self._scheduler.counters.generated_tokens += 1
        if sequence.guide is not None:
            sequence.guide.take(token)
        ended = token in params.ends(self._end_tokens)
        if (not ended and sequence.text.push(token)) or ended or (sequence.guide is not None and sequence.guide.ended):
            return "stop"
        return "length" if sequence.remaining <= 0 else None

    def _give_up(self, sequence: Sequence, problem: str) -> Output:
        """End a request whose grammar can't be followed any further."""
        request = sequence.request
        for each in request.sequences:
            self._scheduler.finish(each, "error")
        return Output(request, 0, error=RequestError(f"the grammar can't be followed any further: {problem}"))
