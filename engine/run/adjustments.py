"""Changes to logits that a request asks for: biases of tokens, penalties for what was said, words that are never said,
no end before its time.

They depend on nothing but the sequence's own tokens and, in rows behind a draft, the drafted ones before: so neither
batching nor speculation nor preemption changes what is sampled. In the order of vLLM: `logit_bias`, then the
repetition, frequency and presence penalties; last, words and ends are ruled out. Reported log-probabilities stay the
model's own.

A step costs no time in Python for each token of a prompt or a text: prompts wait on the device as indices, and what was
said is counted in arrays.
"""

from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from engine.run.outputs import Row
from engine.schedule.said import Numbers, Said
from engine.schedule.sequence import Request

Rows = Sequence[tuple[int, Row]]  # of the logits that are changed, with their numbers
Cells = tuple[Tensor, Tensor]  # their rows and their tokens


class Adjuster:
    """Changes the logits of a model's steps."""

    def __init__(self, end_tokens: frozenset[int]) -> None:
        """`end_tokens`: that end a text."""
        self._end_tokens = end_tokens
        self._prompts: WeakKeyDictionary[Request, Tensor] = WeakKeyDictionary()  # the different tokens of each

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Row], logits: Tensor) -> Tensor:
        """The logits as the rows' requests want them changed.

        Args:
            rows: one per row of logits.
            logits: `[rows, vocabulary]` float32; unchanged.
        """
        concerned = [(index, row) for index, row in enumerate(rows) if row.sequence.request.params.adjusts]
        if not concerned:
            return logits
        result = logits.clone()
        self._bias(result, concerned)
        said = {index: _said(row) for index, row in concerned if row.sequence.request.params.penalizes}
        self._repetition(result, concerned, said)
        _subtract(result, concerned, said)
        _rule_out(result, concerned, _bad_words)
        _rule_out(result, concerned, self._early_ends)
        return result

    @staticmethod
    def _bias(logits: Tensor, rows: Rows) -> None:
        biases = [(index, *bias) for index, row in rows for bias in row.sequence.request.params.logit_bias]
        if biases:
            lines, tokens, values = zip(*biases, strict=True)
            logits[_cells(lines, tokens, logits)] += _like(np.array(values, dtype=np.float32), logits)

    def _repetition(self, logits: Tensor, rows: Rows, said: dict[int, Said]) -> None:
        """Divide or multiply, once for each token of the prompt or the text."""
        chosen = [(index, row) for index, row in rows if row.sequence.request.params.repetition_penalty != 1]
        if not chosen:
            return
        prompts = [self._prompt(row.sequence.request, logits) for _, row in chosen]
        fresh = [said[index].fresh for index, _ in chosen]
        lengths = [len(prompt) + len(more) for prompt, more in zip(prompts, fresh, strict=True)]
        parts = [part for prompt, more in zip(prompts, _split(fresh, logits), strict=True) for part in (prompt, more)]
        tokens, total = torch.cat(parts), sum(lengths)
        each = _like(np.array(lengths, dtype=np.int64), logits)
        lines = _like(np.array([index for index, _ in chosen], dtype=np.int64), logits)
        factors = [row.sequence.request.params.repetition_penalty for _, row in chosen]
        penalties = _like(np.array(factors, dtype=np.float32), logits)
        cells = (lines * logits.shape[1]).repeat_interleave(each, output_size=total).add_(tokens)
        values = penalties.repeat_interleave(each, output_size=total)
        flat = logits.view(-1)  # a gather of one index is several times faster than one of two
        found = flat.gather(0, cells)
        flat.scatter_(0, cells, torch.where(found > 0, found / values, found * values))

    def _prompt(self, request: Request, like: Tensor) -> Tensor:
        """The different tokens of a prompt, on the device."""
        known = self._prompts.get(request)
        if known is None:
            known = self._prompts[request] = _like(np.unique(np.array(request.prompt, dtype=np.int64)), like)
        return known

    def _early_ends(self, row: Row) -> Iterable[int]:
        params = row.sequence.request.params
        return params.ends(self._end_tokens) if row.sequence.generated + row.offset < params.min_tokens else ()


def _said(row: Row) -> Said:
    """What was said before this row's token."""
    said = row.sequence.said()
    return said.with_more(row.chunk.draft[: row.offset]) if row.offset else said


def _subtract(logits: Tensor, rows: Rows, said: dict[int, Said]) -> None:
    """The frequency and presence penalties."""
    lines: list[Numbers] = []
    tokens: list[Numbers] = []
    values: list[Numbers] = []
    for index, row in rows:
        params = row.sequence.request.params
        if params.frequency_penalty or params.presence_penalty:
            found = said[index]
            lines.append(np.full(len(found.tokens), index))
            tokens.append(found.tokens)
            values.append(found.counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty))
    if lines:
        cells = _cells(np.concatenate(lines), np.concatenate(tokens), logits)
        logits[cells] -= _like(np.concatenate(values), logits)


def _rule_out(logits: Tensor, rows: Rows, tokens_of: Callable[[Row], Iterable[int]]) -> None:
    """Minus infinity for the tokens that `tokens_of` gives for a row."""
    found = [(index, token) for index, row in rows for token in tokens_of(row) if token < logits.shape[1]]
    if found:
        lines, tokens = zip(*found, strict=True)
        logits[_cells(lines, tokens, logits)] = -torch.inf


def _bad_words(row: Row) -> Iterable[int]:
    """The last tokens of words whose other tokens were just said."""
    words = row.sequence.request.params.bad_words
    if not words:
        return ()
    longest = max(map(len, words)) - 1
    sequence = row.sequence
    recent = [
        *sequence.tokens[max(sequence.prompt_length, len(sequence.tokens) - longest) :],
        *row.chunk.draft[: row.offset],
    ]
    return [word[-1] for word in words if tuple(recent[max(0, len(recent) - len(word) + 1) :]) == word[:-1]]


def _cells(lines: Numbers | Sequence[int], tokens: Numbers | Sequence[int], like: Tensor) -> Cells:
    both = _like(np.stack((np.asarray(lines, dtype=np.int64), np.asarray(tokens, dtype=np.int64))), like)
    return both[0], both[1]


def _split(arrays: Sequence[Numbers], like: Tensor) -> Sequence[Tensor]:
    """The arrays beside `like`, brought there at once."""
    return torch.split(_like(np.concatenate(arrays), like), [len(array) for array in arrays])


def _like(array: Numbers, like: Tensor) -> Tensor:
    """An array beside `like`; a GPU need not be waited for."""
    found = torch.from_numpy(array)
    return found.pin_memory().to(like.device, non_blocking=True) if like.device.type == "cuda" else found
