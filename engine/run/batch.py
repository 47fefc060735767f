"""From the scheduler's step to the batch that the model runs: one row per token, and the work of attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.model.model import Model, StepInput
from engine.schedule.step import Step
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import Span, cut
from kernels.tree_attention.items import Item


@dataclass(frozen=True)
class Batch:
    """A step's rows, one per token, as plain numbers. Build it with `Batch.of`."""

    tokens: list[int]
    positions: list[int]
    slots: list[int]  # places in the cache
    wanted: list[int]  # rows whose logits are wanted: those that are sampled, then those of scored prompts
    scored: int  # how many of `wanted` are of scored prompts
    spans: list[Span]  # in tree order, each with its rows
    shared: Sequence[int]  # as of `Step`
    block_size: int  # tokens

    @classmethod
    def of(cls, step: Step, block_size: int) -> "Batch":
        """The chunks of a step, at least one, with `block_size` tokens per block."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        sampled: list[int] = []
        scored: list[int] = []
        spans: list[Span] = []
        for chunk in step.chunks:
            sequence, new, draft = chunk
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
                scored.extend(range(first, first + chunk.scored))
            if chunk.samples:
                sampled.extend(range(len(tokens) - 1 - drafted, len(tokens)))
        return cls(tokens, positions, slots, sampled + scored, len(scored), spans, step.shared, block_size)

    def items(self, cost: CutRule, in_place: bool) -> tuple[list[Item], int]:
        """Work items of attention, and how many cached tokens need not be read again thanks to shared nodes.

        Args:
            cost: which shared nodes are worth an item of their own.
            in_place: see `kernels.tree_attention.cut`.
        """
        items = cut(self.spans, self.shared, self.block_size, cost, in_place)
        return items, sum(span.length for span in self.spans) - sum(item.end - item.begin for item in items)


def to_device(batch: Batch, cost: CutRule, model: Model) -> tuple[StepInput, int]:
    """Bring a batch to the device.

    Args:
        batch: the step's rows.
        cost: which shared nodes are worth an item of their own.
        model: that it is for.

    Returns:
        The model's input, and how many cached tokens attention need not read again thanks to shared nodes.
    """
    backend, device = model.backend, model.device
    items, shared_tokens = batch.items(cost, backend.in_place)
    rows = torch.tensor([batch.tokens, batch.positions, batch.slots], device=device)
    works = tuple(
        backend.prepare(items, len(batch.tokens), batch.block_size, device, reach.floors(batch.positions))
        for reach in model.reaches
    )
    wanted = torch.tensor(batch.wanted, dtype=torch.int64, device=device)
    return StepInput(rows[0], rows[1], rows[2], wanted, works), shared_tokens
