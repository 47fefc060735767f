"""Changes to logits that a request asks for: biases of tokens, penalties for what was said, no end before its time.

They depend on nothing but the sequence's own tokens and, in rows behind a draft, the drafted ones before: so neither
batching nor speculation nor preemption changes what is sampled. In the order of vLLM: `logit_bias`, then the
repetition, frequency and presence penalties; last, ends are ruled out. Reported log-probabilities stay the model's own.
"""

from collections import Counter

import torch
from torch import Tensor

from engine.run.outputs import Row

Cells = dict[tuple[int, int], float]  # by row and token


@torch.inference_mode()
def adjusted(rows: list[Row], logits: Tensor, end_tokens: frozenset[int]) -> Tensor:
    """The logits as the rows' requests want them changed.

    Args:
        rows: one per row of logits.
        logits: `[rows, vocabulary]` float32; unchanged.
        end_tokens: tokens that end a text.
    """
    concerned = [(index, row) for index, row in enumerate(rows) if row.sequence.request.params.adjusts]
    if not concerned:
        return logits
    biases: Cells = {}
    factors: Cells = {}
    penalties: Cells = {}
    ends: Cells = {}
    for index, row in concerned:
        params = row.sequence.request.params
        biases |= {(index, token): bias for token, bias in params.logit_bias}
        if params.penalizes:
            counts = _said(row)
            if params.repetition_penalty != 1:
                seen = counts.keys() | row.sequence.request.prompt_tokens
                factors |= {(index, token): params.repetition_penalty for token in seen}
            if params.frequency_penalty or params.presence_penalty:
                penalties |= {
                    (index, token): -count * params.frequency_penalty - params.presence_penalty
                    for token, count in counts.items()
                }
        if row.sequence.generated + row.offset < params.min_tokens:
            ends |= {(index, token): -torch.inf for token in params.ends(end_tokens) if token < logits.shape[1]}
    result = logits.clone()
    _add(result, biases)
    if factors:
        places, values = _on_device(factors, result)
        found = result[places]
        result[places] = torch.where(found > 0, found / values, found * values)
    _add(result, penalties)
    _add(result, ends)
    return result


def _said(row: Row) -> Counter[int]:
    """How often each token was said before this row's."""
    said = row.sequence.said()
    if row.offset:
        said = said.copy()
        said.update(row.chunk.draft[: row.offset])
    return said


def _add(logits: Tensor, cells: Cells) -> None:
    if cells:
        places, values = _on_device(cells, logits)
        logits[places] += values


def _on_device(cells: Cells, like: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Each cell's place, as an index, and its value."""
    places = torch.tensor(list(cells), device=like.device).unbind(1)
    return (places[0], places[1]), torch.tensor(list(cells.values()), dtype=like.dtype, device=like.device)
