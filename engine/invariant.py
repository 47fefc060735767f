"""Batch-invariant computation: a sequence's logits are the same bits whatever else is in the batch.

What varies with a batch is the order in which sums are taken: matrix products choose their kernels by shape, attention
is cut where sequences share. Here every shape is fixed. A step is computed in tiles of `ROWS` rows, the last one
padded, each a whole forward pass; a row attends by itself over the pieces of `PIECE` tokens of its own prefix, first
to last, and takes no part in anything that depends on its neighbours. A token's keys and values are therefore the same
bits too, so that chunked prefill, a cached prefix and preemption change nothing either.

That a row's result does not depend on its place within a tile is a property of the matrix library that shapes alone
do not promise; `tests/engine/test_invariant.py` holds it on the machine at hand. Prefixes are not read once for all
that share them: this mode is for comparing and for finding faults, and costs what `tests.bench` says.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attention import attending
from engine.model import Model, StepInput
from engine.step import Work
from kernels.kv_store.reference import store

ROWS = 16  # of a tile
PIECE = 256  # tokens, rounded down to whole blocks


@torch.inference_mode()
def forward(model: Model, step: StepInput, works: list[Work], block_size: int) -> Tensor:
    """What `Model.forward` returns for a step made of `works`: `[sampled, vocabulary]` float32.

    Rows of one sequence stand in rising order, so a tile finds the keys of those before it in the cache.
    """
    tables = [work.sequence.table for work in works for _ in range(work.new + len(work.draft))]
    rows = step.tokens.shape[0]
    sampled = sorted((row, place) for place, row in enumerate(step.sampled.tolist()))
    logits = []
    for first in range(0, rows, ROWS):
        last = min(first + ROWS, rows)
        # Padding repeats the last row: it writes the same numbers to the same place.
        index = torch.arange(first, first + ROWS, device=model.device).clamp_(max=last - 1)
        wanted = [row - first for row, _ in sampled if first <= row < last]
        padded = torch.tensor((wanted + [0] * ROWS)[:ROWS] if wanted else [0], device=model.device)
        context = TileContext.of(model, step, index, [tables[min(row, last - 1)] for row in range(first, first + ROWS)])
        with attending(context):
            found = model.run(step.tokens[index], step.positions[index], padded)
        if wanted:
            logits.append(found[: len(wanted)])
    if not logits:
        return torch.empty(0, model.vocabulary, device=model.device)
    order = torch.tensor([place for _, place in sampled], device=model.device)
    return torch.cat(logits)[order.argsort()]


@dataclass(frozen=True)
class TileContext:
    """Attention of one tile: each row over its own prefix, piece by piece."""

    cache: Tensor  # [layers, 2, kv_heads, slots, head_dim]
    slots: Tensor  # [ROWS] int64
    pieces: list[tuple[Tensor, Tensor]]  # blocks [ROWS * blocks] int64; bias [ROWS, 1, tokens] float32, 0 or -inf
    block_size: int
    longest: int

    @classmethod
    def of(cls, model: Model, step: StepInput, index: Tensor, tables: list[list[int]]) -> "TileContext":
        """The tile of the rows `index` of a step, whose sequences have these block tables."""
        size = step.work.block_size
        per_piece = max(1, PIECE // size)
        positions = step.positions[index]
        count = int(positions.max()) // (per_piece * size) + 1
        padded = [(table[: count * per_piece] + [0] * (count * per_piece))[: count * per_piece] for table in tables]
        blocks = torch.tensor(padded, device=model.device)
        pieces = []
        for piece in range(count):
            begin = piece * per_piece
            tokens = torch.arange(begin * size, (begin + per_piece) * size, device=model.device)
            hidden = tokens[None, :] > positions[:, None]
            bias = torch.zeros(hidden.shape, device=model.device).masked_fill_(hidden, -torch.inf)
            pieces.append((blocks[:, begin : begin + per_piece].reshape(-1), bias[:, None, :]))
        return cls(model.cache, step.slots[index], pieces, size, model.context_length)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `engine.attention.Context`. A running softmax in float32; a piece of which a row sees nothing adds 0."""
        keys, values = self.cache[layer, 0], self.cache[layer, 1]
        store(key, value, keys, values, self.slots)
        heads, rows, dim = query.shape
        kv_heads = key.shape[0]
        queries = query.transpose(0, 1).reshape(rows * kv_heads, heads // kv_heads, dim).float() * scale
        top = torch.full((rows * kv_heads, heads // kv_heads, 1), -torch.inf, device=query.device)
        total = torch.zeros_like(top)
        output = torch.zeros_like(queries)
        for blocks, bias in self.pieces:
            scores = torch.bmm(queries, self._gather(keys, blocks, rows).transpose(1, 2))
            scores += bias.repeat_interleave(kv_heads, dim=0)
            higher = torch.maximum(top, scores.amax(dim=-1, keepdim=True))
            weights = scores.sub_(higher).exp_()
            kept = (top - higher).exp_()
            total = total * kept + weights.sum(dim=-1, keepdim=True)
            output = output * kept + torch.bmm(weights, self._gather(values, blocks, rows))
            top = higher
        return (output / total).view(rows, heads, dim).to(query.dtype)

    def _gather(self, cached: Tensor, blocks: Tensor, rows: int) -> Tensor:
        """`[rows * kv_heads, tokens, head_dim]` float32 of one piece."""
        kv_heads, _, dim = cached.shape
        found = cached.view(kv_heads, -1, self.block_size * dim).index_select(1, blocks)
        return found.view(kv_heads, rows, -1, dim).transpose(0, 1).reshape(rows * kv_heads, -1, dim).float()
