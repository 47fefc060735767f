"""From the scheduler's step to the packed tensors and the work list that the model runs."""

import torch

from engine.model import StepInput
from engine.step import Step
from kernels.tree_attention.cut import CutCost, Span, cut
from kernels.tree_attention.worklist import WorkList


def build(
    step: Step, block_size: int, cost: CutCost, device: torch.device, zone: int, cache_blocks: int
) -> tuple[StepInput, int]:
    """Pack the works of a step, one row per token.

    Args:
        step: with at least one work.
        block_size: tokens per block.
        cost: which shared nodes are worth an item of their own.
        device: of the tensors.
        zone, cache_blocks: see `WorkList.of`.

    Returns:
        The model's input, rows of scored prompts behind those that are sampled; and how many cached tokens attention
        need not read again thanks to shared nodes.
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
    items = cut(spans, step.shared, block_size, cost)
    packed = torch.tensor([tokens, positions, slots], device=device)
    rows = WorkList.of(items, len(tokens), block_size, device, zone, cache_blocks)
    read = sum(item.end - item.begin for item in items)
    needed = sum(span.length for span in spans)
    return StepInput(
        packed[0], packed[1], packed[2], torch.tensor(sampled + scored, dtype=torch.int64, device=device), rows
    ), needed - read
