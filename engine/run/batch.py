"""From the scheduler's step to the packed tensors and the work list that the model runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.model.backends import Backend
from engine.model.model import StepInput
from engine.schedule.step import Step
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import Span, cut


@dataclass(frozen=True)
class Packed:
    """A step's rows, one per token, as plain numbers."""

    tokens: list[int]
    positions: list[int]
    slots: list[int]  # places in the cache
    wanted: list[int]  # rows whose logits are wanted: those that are sampled, then those of scored prompts
    spans: list[Span]  # in tree order, each with its rows

    @property
    def needed(self) -> int:
        """Tokens that attention would read if nothing were shared."""
        return sum(span.length for span in self.spans)


def pack(step: Step, block_size: int) -> Packed:
    """Pack the works of a step, one row per token.

    Args:
        step: with at least one work.
        block_size: tokens per block.
    """
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sampled: list[int] = []
    scored: list[int] = []
    spans: list[Span] = []
    for work in step.works:
        sequence, new, draft = work
        table, start = sequence.table, sequence.computed
        drafted = len(draft)
        if new == 1 and not drafted:
            tokens.append(sequence.tokens[start])
            positions.append(start)
            slots.append(table[start // block_size] * block_size + start % block_size)
        else:
            tokens.extend(sequence.tokens[start : start + new])
            tokens.extend(draft)
            end = start + new + drafted
            positions.extend(range(start, end))
            slots.extend(table[at // block_size] * block_size + at % block_size for at in range(start, end))
        spans.append(Span(table, new + drafted, start + new + drafted))
        if sequence.scoring:
            first = len(tokens) - new - drafted
            scored.extend(range(first, first + work.scored))
        if work.samples:
            sampled.extend(range(len(tokens) - 1 - drafted, len(tokens)))
    return Packed(tokens, positions, slots, sampled + scored, spans)


def build(
    packed: Packed,
    shared: Sequence[int],
    block_size: int,
    cost: CutRule,
    backend: Backend,
    device: torch.device,
    zone: int,
    cache_blocks: int,
) -> tuple[StepInput, int]:
    """Bring a packed step to the device.

    Args:
        packed: the step's rows.
        shared: as of `Step`.
        block_size: tokens per block.
        cost: which shared nodes are worth an item of their own.
        backend: of the attention.
        device: of the tensors.
        zone, cache_blocks: see `WorkList.of`.

    Returns:
        The model's input, and how many cached tokens attention need not read again thanks to shared nodes.
    """
    items = cut(packed.spans, shared, block_size, cost, backend.in_place)
    rows = torch.tensor([packed.tokens, packed.positions, packed.slots], device=device)
    work = backend.prepare(items, len(packed.tokens), block_size, device, zone, cache_blocks)
    read = sum(item.end - item.begin for item in items)
    wanted = torch.tensor(packed.wanted, dtype=torch.int64, device=device)
    return StepInput(rows[0], rows[1], rows[2], wanted, work), packed.needed - read
