"""Decoding without Python for each row: as long as the same sequences say one more token each, a step is a few arrays.

A step of this kind begins with no prompt to compute, no draft, nobody who may join, and rows that need nothing beside
sampling (no grammar, penalties or log-probabilities). Tokens are then kept in an array and brought to their sequences
when those end, when another kind of step is due, or after `LOG` steps. Rows whose text is looked at in each step, since
it is streamed or may hold a stop string, are brought up to date each time.

With `ahead`, the next step is launched before the tokens of the last one are known to the host: they stay on the device
as its input, and the host's work is hidden behind the device's. A sequence that turns out to have ended has then been
computed once too often: what it wrote lies behind its last token, where nobody reads, and its token is dropped. Where
something may not be guessed (a request waits, blocks run out, a request is aborted), no step is launched ahead.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.run.batch import SPARE, Batch
from engine.run.outputs import Writer
from engine.run.runner import Runner
from engine.run.sampling import Draw, Draws, sample
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import Output, Sequence
from engine.schedule.step import Chunk, Step
from kernels.tree_attention.cut import Span, cut
from kernels.tree_attention.items import ItemTable

Numbers = np.ndarray[Any, Any]

LOG = 128  # steps


@dataclass(eq=False)
class _Flight:
    """A step whose tokens were not read yet."""

    chosen: Tensor  # [rows] int64, on the device
    result: Tensor  # [2, rows] int64, on the host as soon as `event` has come: tokens, and whether logits are finite
    event: Any  # torch.cuda.Event; None: nothing to wait for
    index: Numbers  # of the rows that are still there

    def read(self) -> Numbers:
        """`[2, rows]`, of the rows that are still there."""
        if self.event is not None:
            self.event.synchronize()
        found: Numbers = self.result.numpy()[:, self.index]
        return found


@dataclass(eq=False)
class _Rows:
    """The sequences of a steady step in tree order, as columns."""

    sequences: list[Sequence]
    shared: list[int]  # as of `Step`
    draws: Draws  # of the next step that is launched
    last: Numbers  # the last token of each that the host knows
    lengths: Numbers  # tokens of each, before the steps of the log
    room: Numbers  # tokens for which each table has room
    blocks: Numbers  # where each row's next token goes
    left: Numbers  # tokens that may still be sampled, before the steps of the log
    flushed: Numbers  # steps of the log that a sequence knows
    eager: Numbers  # bool, rows whose text is looked at in each step
    ends: list[tuple[Numbers, Numbers]]  # tokens that end a text, and the rows (bool) of which
    log: Numbers  # [LOG, rows] int64
    items: tuple[ItemTable, int, Numbers] | None = None  # of the last step; tokens not read; each row's own item
    launched: int = 0  # steps of the log, those in flight counted
    read: int = 0  # of these, those whose tokens are known

    def keep(self, rows: Numbers) -> None:
        """Only these rows, a truth value each."""
        self.sequences = [sequence for sequence, stays in zip(self.sequences, rows, strict=True) if stays]
        self.draws = self.draws.of_rows(rows)
        for name in ("last", "lengths", "room", "blocks", "left", "flushed", "eager"):
            setattr(self, name, getattr(self, name)[rows])
        self.ends = [(tokens, of[rows]) for tokens, of in self.ends]
        self.log = self.log[:, rows]
        self.items = None


class Steady:
    """Steady steps of one scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        writer: Writer,
        end_tokens: frozenset[int],
        drafts: Callable[[int], bool],
        ahead: bool,
        least: int,
    ) -> None:
        """
        Args:
            scheduler: of the sequences.
            runner: of the steps.
            writer: tells what sequences come to.
            end_tokens: that end a text.
            drafts: whether tokens may be drafted where that many sequences decode.
            ahead: whether the next step is launched before the last one's tokens are known.
            least: rows; with fewer, nothing is steady.
        """
        self.shared_tokens = 0  # see `engine.core.StepStats`; of all steps
        self.steps = 0
        self.overtaken = 0  # steps that were launched before the tokens of the one before were known
        self._scheduler = scheduler
        self._runner = runner
        self._writer = writer
        self._end_tokens = end_tokens
        self._drafts = drafts
        self._ahead = ahead
        self._least = least
        self._rows: _Rows | None = None
        self._flight: _Flight | None = None
        self._clients: list[tuple[Sequence, int]] = []  # one sequence of each client, and the client's rows

    @torch.inference_mode()
    def step(self) -> list[Output] | None:
        """One step; `None`, with all sequences up to date, where another kind of step is due."""
        if self._flight is None and not (self._goes_on() and (self._rows is not None or self._begin())):
            self.settle()
            return None
        flight = self._flight or self._launch(None)
        if flight is None:
            self.settle()
            return None
        rows = self._rows
        assert rows is not None
        self._flight = None
        if self._ahead and self._goes_on() and (rows.left > rows.read + 1).any():
            self._flight = self._launch(flight)
            self.overtaken += self._flight is not None
        tokens, finite = flight.read()
        if not finite.all():  # computed again, by the step that tells whose they are
            self.settle()
            return None
        return self._take(rows, tokens)

    def settle(self) -> None:
        """Bring all sequences up to date; forget the arrays and what is in flight."""
        rows, self._rows, self._flight = self._rows, None, None
        if rows is not None:
            for row in range(len(rows.sequences)):
                self._flush(rows, row, rows.read)

    def as_step(self) -> Step:
        """The step as others see it, with its sequences up to date."""
        self.settle()
        sequences = list(self._scheduler.running)
        return Step([Chunk(sequence, 1) for sequence in sequences], list(self._scheduler.running.shared), [])

    # -- when ----------------------------------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        """Whether nobody may join, and nothing is drafted."""
        count = len(self._scheduler.running)
        return count >= self._least and self._scheduler.settled() and not self._drafts(count)

    def _begin(self) -> bool:
        """Make the columns, if all sequences are of the kind."""
        running = self._scheduler.running
        if not all(map(_plain, running)):
            return False
        size, sequences = self._scheduler.limits.block_size, list(running)
        ends: dict[frozenset[int], list[int]] = {}
        for row, sequence in enumerate(sequences):
            ends.setdefault(sequence.request.params.ends(self._end_tokens), []).append(row)
        lengths = np.array([len(sequence.tokens) for sequence in sequences])
        streams = [bool(s.request.stream or s.request.params.stop) for s in sequences]
        self._rows = _Rows(
            sequences,
            list(running.shared),
            Draws.of([Draw(s.request.params, s.seed, s.generated) for s in sequences]),
            np.array([sequence.tokens[-1] for sequence in sequences]),
            lengths,
            np.array([len(sequence.table) * size for sequence in sequences]),
            np.array([s.table[min((len(s.tokens) - 1) // size, len(s.table) - 1)] for s in sequences]),
            np.array([sequence.remaining for sequence in sequences]),
            np.zeros(len(sequences), dtype=np.int64),
            np.array(streams),
            [(np.array(sorted(tokens)), _truth(of, len(sequences))) for tokens, of in ends.items() if tokens],
            np.zeros((LOG, len(sequences)), dtype=np.int64),
        )
        self._count_clients(sequences)
        return True

    # -- a step on the device ------------------------------------------------------------------------------------

    def _launch(self, before: _Flight | None) -> _Flight | None:
        """Compute the step behind `before`, whose tokens may still be on the device alone; `None`: there is no room."""
        rows = self._rows
        assert rows is not None
        if rows.launched == LOG:
            if before is not None:
                return None
            for row in range(len(rows.sequences)):
                self._flush(rows, row, rows.read)
            rows.lengths, rows.left = rows.lengths + rows.read, rows.left - rows.read
            rows.flushed[:] = 0
            rows.launched = rows.read = 0
        positions = rows.lengths + (rows.launched - 1)
        if not self._grow(rows, positions):
            return None
        size, count = self._scheduler.limits.block_size, len(rows.sequences)
        said: Tensor | None = None
        if before is not None:
            said = before.chosen
            if len(before.index) < len(said):
                said = said[torch.from_numpy(before.index).to(said.device)]
        numbers = np.stack((rows.last, positions, rows.blocks * size + positions % size))
        known = self._items(rows, positions) if self._runner.by_items else None
        spans = [] if known is not None else _spans(rows, positions)
        batch = Batch(numbers, np.arange(count), 0, spans, rows.shared, size, known, said)
        logits, shared_tokens = self._runner.run(batch)
        self.shared_tokens += shared_tokens
        finite = torch.isfinite(logits.amax(dim=-1))
        chosen = sample(logits, rows.draws)
        rows.draws = rows.draws.next()
        rows.launched += 1
        result, event = torch.stack((chosen, finite.to(torch.int64))), None
        if result.device.type == "cuda":
            room = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            result, event = room.copy_(result, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return _Flight(chosen, result, event, np.arange(count))

    def _items(self, rows: _Rows, positions: Numbers) -> tuple[ItemTable, int]:
        """Work items of attention: cut once, then lengthened, and tokens that need not be read again thanks to them."""
        size = self._scheduler.limits.block_size
        if rows.items is not None:
            table, shared_tokens, tails = rows.items
            new = np.flatnonzero(positions % size == 0)
            if not len(new) or table.lengthen(tails[new], rows.blocks[new]):
                table.end[tails] += 1
                return table, shared_tokens
        items = cut(_spans(rows, positions), rows.shared, size, self._runner.cost, in_place=False)
        shared_tokens = int(positions.sum()) + len(positions) - sum(item.end - item.begin for item in items)
        table = ItemTable.of(items, size, SPARE)
        tails = np.arange(len(table) - len(positions), len(table))  # behind all shared nodes, in the order of rows
        rows.items = table, shared_tokens, tails
        return table, shared_tokens

    def _grow(self, rows: _Rows, positions: Numbers) -> bool:
        """Give each row a block for its token; whether there are enough without taking any away."""
        allocator, size = self._scheduler.allocator, self._scheduler.limits.block_size
        missing = np.flatnonzero(positions >= rows.room)
        if len(missing) > allocator.free or not self._has_places(rows, positions):
            return False
        for row in missing.tolist():
            table = rows.sequences[row].table
            table.extend(allocator.follow(table[-1], 1) or allocator.allocate(1))
        rows.room[missing] += size
        begin = np.flatnonzero(positions % size == 0).tolist()  # of a block
        for row in begin:
            rows.blocks[row] = rows.sequences[row].table[int(positions[row]) // size]
        sequences = [rows.sequences[row] for row in begin]
        ends = positions[begin].tolist()
        self._scheduler.windows.extend_all(
            [s for s, end in zip(sequences, ends, strict=True) if s.placed * size <= end]
        )
        return True

    def _has_places(self, rows: _Rows, positions: Numbers) -> bool:
        """Whether layers that see a window alone have places for all blocks that begin with a row's token."""
        windows = self._scheduler.windows
        if not windows:
            return True
        begin = np.flatnonzero(positions % self._scheduler.limits.block_size == 0).tolist()
        for row in begin:  # the token before may have to be computed once more
            windows.move_on(rows.sequences[row], int(positions[row]) - 1)
        return len(begin) <= windows.available

    # -- its tokens ----------------------------------------------------------------------------------------------

    def _take(self, rows: _Rows, tokens: Numbers) -> list[Output]:
        self.steps += 1
        rows.log[rows.read] = tokens
        rows.read += 1
        rows.last = tokens
        done = rows.left <= rows.read
        for ends, of in rows.ends:
            done |= of & np.isin(tokens, ends)
        for sequence, count in self._clients:
            self._scheduler.waiting.charge(sequence, count)
        told = np.flatnonzero(done | rows.eager)
        self._scheduler.counters.generated_tokens += len(tokens) - len(told)
        outputs, gone = [], np.zeros(len(tokens), dtype=bool)
        running = self._scheduler.running
        for row in told.tolist():
            sequence = rows.sequences[row]
            self._flush(rows, row, rows.read - 1)
            sequence.computed = len(sequence.tokens)
            output = self._writer.take(Chunk(sequence, 1), [int(tokens[row])], [None])
            rows.flushed[row] = rows.read
            if output is not None:
                outputs.append(output)
            gone[row] = sequence.finish_reason is not None
        if gone.any():
            self._leave(rows, ~gone)
        assert self._rows is None or len(running) == len(self._rows.sequences)
        return outputs

    def _leave(self, rows: _Rows, stay: Numbers) -> None:
        """Go on with some of the rows."""
        if not stay.any():
            self._rows = self._flight = None
            return
        rows.keep(stay)
        rows.shared = list(self._scheduler.running.shared)
        self._count_clients(rows.sequences)
        if self._flight is not None:
            self._flight.index = self._flight.index[stay]

    @staticmethod
    def _flush(rows: _Rows, row: int, until: int) -> None:
        """Bring the tokens of the log's first steps to their sequence."""
        sequence, begin = rows.sequences[row], int(rows.flushed[row])
        if begin < until:
            for token in rows.log[begin:until, row].tolist():
                sequence.tokens.append(token)
                sequence.text.push(token)
            rows.flushed[row] = until
        sequence.computed = len(sequence.tokens) - 1

    def _count_clients(self, sequences: list[Sequence]) -> None:
        counts = Counter(sequence.request.client for sequence in sequences)
        some = {sequence.request.client: sequence for sequence in sequences}
        self._clients = [(some[client], count) for client, count in counts.items()]


def _plain(sequence: Sequence) -> bool:
    """Whether a sequence decodes, and needs nothing but sampling."""
    params = sequence.request.params
    return (
        sequence.computed == len(sequence.tokens) - 1
        and sequence.generated > 0
        and sequence.guide is None
        and params.logprobs is None
        and not params.adjusts
        and not sequence.scoring
    )


def _spans(rows: _Rows, positions: Numbers) -> list[Span]:
    return [Span(s.table, 1, length) for s, length in zip(rows.sequences, (positions + 1).tolist(), strict=True)]


def _truth(rows: list[int], count: int) -> Numbers:
    found: Numbers = np.zeros(count, dtype=bool)
    found[rows] = True
    return found
