"""From the scheduler's step to the batch that the model runs: one row per token, and the work of attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.model.backends import SparseWork, StepItems, Work
from engine.model.entries import Closed
from engine.model.entries import Rows as TextRows
from engine.model.model import Model, StepInput
from engine.model.states import Rows
from engine.schedule.step import Step
from kernels.sparse_attention.reference import Texts
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import Span, cut
from kernels.tree_attention.items import Item, ItemTable
from kernels.tree_attention.reach import moved

SPARE = 8  # blocks by which a row's own item may grow before a steady tree is cut anew

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Text(NamedTuple):
    """A sequence's part of a batch, for layers with a state."""

    slot: int  # of its state
    goes_on: bool  # it has a state; else it begins
    first: int  # row
    new: int  # rows
    drafted: int  # rows behind those


@dataclass(frozen=True)
class Batch:
    """A step's rows, one per token, as columns. Build it with `Batch.of`."""

    rows: Numbers  # [3, rows] int64: tokens, positions, slots (places in the cache)
    wanted: Numbers  # rows whose logits are wanted: those that are sampled, then those of scored prompts
    scored: int  # how many of `wanted` are of scored prompts
    spans: list[Span]  # in tree order, each with its rows
    shared: Sequence[int]  # as of `Step`
    block_size: int  # tokens
    known: tuple[ItemTable, int] | None = None  # what `items` gives, in place of the spans
    said: Tensor | None = None  # [rows] int64 on the device: the tokens, where the host does not know them yet
    texts: Sequence[Text] = ()  # those with a recurrent state

    @classmethod
    def of(cls, step: Step, block_size: int) -> "Batch":
        """The chunks of a step, at least one, with `block_size` tokens per block."""
        tokens: list[int] = []
        positions: list[int] = []
        blocks: list[int] = []
        sampled: list[int] = []
        scored: list[int] = []
        spans: list[Span] = []
        texts: list[Text] = []
        for chunk in step.chunks:
            sequence, new, draft = chunk
            table, start = sequence.table, sequence.computed
            drafted = len(draft)
            if sequence.slot >= 0:
                texts.append(Text(sequence.slot, start > 0, len(tokens), new, drafted))
            if new == 1 and not drafted:
                tokens.append(sequence.tokens[start])
                positions.append(start)
                blocks.append(table[start // block_size])
            else:
                tokens.extend(sequence.tokens[start : start + new])
                tokens.extend(draft)
                end = start + new + drafted
                positions.extend(range(start, end))
                blocks.extend(table[at // block_size] for at in range(start, end))
            spans.append(Span(table, new + drafted, start + new + drafted))
            if sequence.scoring:
                first = len(tokens) - new - drafted
                scored.extend(range(first, first + chunk.scored))
            if chunk.samples:
                sampled.extend(range(len(tokens) - 1 - drafted, len(tokens)))
        rows = np.array((tokens, positions, blocks), dtype=np.int64)
        rows[2] = rows[2] * block_size + rows[1] % block_size
        wanted = np.array(sampled + scored, dtype=np.int64)
        return cls(rows, wanted, len(scored), spans, step.shared, block_size, texts=texts)

    @property
    def count(self) -> int:
        """Rows."""
        return int(self.rows.shape[1])

    def slots(self, where: Numbers) -> Numbers:
        """`[rows]` int64, the rows' places in a cache that has block `b` at `where[b]`."""
        block, offset = np.divmod(self.rows[2], self.block_size)
        found: Numbers = where[block].astype(np.int64) * self.block_size + offset
        return found

    def items(self, cost: CutRule, in_place: bool) -> tuple[list[Item], int]:
        """Work items of attention, and how many cached tokens need not be read again thanks to shared nodes.

        Args:
            cost: which shared nodes are worth an item of their own.
            in_place: see `kernels.tree_attention.cut`.
        """
        if self.known is not None:
            return self.known[0].items(), self.known[1]
        items = cut(self.spans, self.shared, self.block_size, cost, in_place)
        return items, sum(span.length for span in self.spans) - sum(item.end - item.begin for item in items)


def to_device(batch: Batch, cost: CutRule, model: Model, places: Sequence[Numbers] = ()) -> tuple[StepInput, int]:
    """Bring a batch to the device.

    Args:
        batch: the step's rows.
        cost: which shared nodes are worth an item of their own.
        model: that it is for.
        places: of each block in the cache of each of the model's `windows`.

    Returns:
        The model's input, and how many cached tokens attention need not read again thanks to shared nodes.
    """
    backend, device = model.backend, model.device
    items, shared_tokens = batch.items(cost, backend.in_place)
    rows = torch.from_numpy(batch.rows).to(device)
    works: list[Work | SparseWork] = []
    for reach in model.reaches:
        if reach.most and any(span.length > reach.most for span in batch.spans):
            works.append(sparse_work(batch, cost, model, reach.most))
            continue
        floors, own = reach.floors(batch.rows[1]), reach in model.windows
        seen: Sequence[Item] = items
        if own:
            seen = moved(items, floors, batch.block_size, places[model.windows.index(reach)])
        works.append(backend.prepare(StepItems(seen, batch.count, batch.block_size, floors, zones=not own), device))
    wanted = torch.from_numpy(batch.wanted).to(device)
    states = state_rows(batch.texts, device)
    tokens = rows[0] if batch.said is None else batch.said
    own_slots = tuple(torch.from_numpy(batch.slots(where)).to(device) for where in places)
    texts = _text_rows(batch, places) if model.rates else ()
    closed = tuple(Closed.of(rate, texts, batch.block_size, device) for rate in model.rates)
    return StepInput(tokens, rows[1], rows[2], wanted, tuple(works), states, own_slots, closed), shared_tokens


def _text_rows(batch: Batch, places: Sequence[Numbers]) -> list[TextRows]:
    """The texts of a batch for layers with entries of several tokens; what these are made of is in the first of
    `places`, if there are any.
    """
    found, first = [], 0
    for span in batch.spans:
        table = np.array(span.table, dtype=np.int64)
        kept = places[0][table].astype(np.int64) if places else table
        found.append(TextRows(first, span.new, span.length, table, kept))
        first += span.new
    return found


def sparse_work(batch: Batch, cost: CutRule, model: Model, most: int) -> SparseWork:
    """The work of layers where `most` tokens are chosen for each row, with some text that has more."""
    backend, device, size = model.backend, model.device, batch.block_size
    plain: list[Span] = []
    shared: list[int] = []
    rows: list[int] = []
    groups: dict[int, list[tuple[int, Span]]] = {}  # by rows of each: first rows
    first = common = 0
    for span, own in zip(batch.spans, batch.shared, strict=True):
        common = min(common, own)
        if span.length > most:
            groups.setdefault(span.new, []).append((first, span))
        else:
            plain.append(span)
            shared.append(common)
            rows.extend(range(first, first + span.new))
            common = len(span.table)
        first += span.new
    work = None
    if plain:
        items = cut(plain, shared, size, cost, backend.in_place)
        work = backend.prepare(StepItems(items, len(rows), size), device)
    texts = tuple(_texts(new, members, size, device) for new, members in groups.items())
    return SparseWork(most, torch.tensor(rows, dtype=torch.int64, device=device), work, texts)


def _texts(new: int, members: Sequence[tuple[int, Span]], size: int, device: torch.device) -> Texts:
    """Texts with `new` rows each, from their first rows."""
    firsts = torch.tensor([[first] for first, _ in members], device=device)
    lengths = torch.tensor([[span.length] for _, span in members], device=device)
    steps = torch.arange(new, device=device)
    width = max(-(-span.length // size) for _, span in members)
    blocks = np.zeros((len(members), width), dtype=np.int64)
    for at, (_, span) in enumerate(members):
        listed = span.table[: -(-span.length // size)]
        blocks[at, : len(listed)] = listed
    return Texts(firsts + steps, lengths - new + steps, torch.from_numpy(blocks).to(device), size)


def state_rows(texts: Sequence[Text], device: torch.device) -> tuple[Rows, ...]:
    """Groups of a step's texts for layers with a state: equally many rows each, guesses behind all others."""
    groups: dict[tuple[bool, int, bool], list[tuple[int, int]]] = {}
    for text in texts:
        groups.setdefault((True, text.new, text.goes_on), []).append((text.first, text.slot))
        if text.drafted:
            groups.setdefault((False, text.drafted, True), []).append((text.first + text.new, text.slot))
    found = []
    for (kept, length, goes_on), members in sorted(groups.items(), key=lambda group: not group[0][0]):
        first, slots = torch.tensor(members, device=device).T
        index = None if len(groups) == 1 else (first[:, None] + torch.arange(length, device=device)).view(-1)
        found.append(Rows(index, length, slots.contiguous(), goes_on, kept))
    return tuple(found)
