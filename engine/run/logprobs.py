"""Reported log-probabilities, of sampled tokens and of prompts."""

from collections.abc import Sequence as Many

import torch
from torch import Tensor

from engine.run.invariant import row_by_row
from engine.run.sampling import logprobs
from engine.schedule.sequence import TokenLogprob
from engine.schedule.step import Chunk


def report(
    logits: Tensor, tokens: Tensor, counts: Many[int | None], each_alone: bool = False, ranks: bool = False
) -> list[TokenLogprob | None]:
    """Log-probabilities of one token per row.

    Args:
        logits: `[rows, vocabulary]` float32.
        tokens: `[rows]` int64.
        counts: alternatives wanted of each row; `None`: nothing at all.
        each_alone: others must not change a row's last bits.
        ranks: whether the tokens' ranks are wanted.
    """
    each_alone = each_alone and not row_by_row(logits.device)
    entries: list[TokenLogprob | None] = [None] * len(counts)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, count in enumerate(counts):
        if count is not None:
            groups.setdefault((row if each_alone else 0, count), []).append(row)
    for (_, count), group in groups.items():
        found, values, ids = logprobs(logits[group], tokens[group], count)
        places = _ranks(logits[group], tokens[group]) if ranks else [0] * len(group)
        columns = zip(group, tokens[group].tolist(), found.tolist(), values.tolist(), ids.tolist(), places, strict=True)
        for row, token, value, top_values, top_ids, rank in columns:
            entries[row] = TokenLogprob(token, value, tuple(zip(top_ids, top_values, strict=True)), rank)
    return entries


def _ranks(logits: Tensor, tokens: Tensor) -> list[int]:
    """The rank of one token per row, 1 for the likeliest."""
    ranks: list[int] = ((logits > logits.gather(1, tokens[:, None])).sum(dim=-1) + 1).tolist()
    return ranks


def note_prompts(chunks: Many[Chunk], logits: Tensor, each_alone: bool = False) -> None:
    """Store the log-probabilities of prompt tokens in their requests.

    Args:
        chunks: of the step, not yet advanced.
        logits: `[scored, vocabulary]` float32, the rows of `Chunk.scored` of all chunks, one after the other.
        each_alone: see `report`.
    """
    scored = [(chunk.sequence, chunk.scored) for chunk in chunks if chunk.scored]
    tokens: list[int] = []
    counts: list[int | None] = []
    for sequence, rows in scored:
        begin = sequence.computed + 1
        tokens += sequence.tokens[begin : begin + rows]
        counts += [sequence.request.params.prompt_logprobs] * rows
    entries = report(logits, torch.tensor(tokens, device=logits.device), counts, each_alone, ranks=True)
    first = 0
    for sequence, rows in scored:
        found = [entry for entry in entries[first : first + rows] if entry is not None]
        sequence.request.prompt_logprobs.extend(found)
        first += rows
