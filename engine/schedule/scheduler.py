"""Which sequences run, with which blocks, and how many of their tokens each step computes.

A sequence waits, then runs: its prompt is computed in chunks beside the rows of those that decode, then one token a
step. It finishes, or is preempted (its blocks are given up and it waits again, to be recomputed) when others
need the room. Requests never fail for lack of memory: one that can never fit is refused earlier. Several
clients at once take turns (`engine.schedule.turns`): no client waits for another's thousand samples.
"""

import time
from collections.abc import Callable
from functools import partial

from engine.cache.blocks import BlockAllocator
from engine.cache.prefix_tree import Match, PrefixTree
from engine.cache.tails import CopySlots, Tails
from engine.schedule.counters import Counters
from engine.schedule.drafts import Drafter, Drafts
from engine.schedule.forecast import Forecast
from engine.schedule.limits import Limits
from engine.schedule.resumption import ANYWHERE, Bounds, Resumption
from engine.schedule.sequence import FinishReason, Request, Sequence, State
from engine.schedule.step import Chunk, Step
from engine.schedule.tree_order import TreeOrder
from engine.schedule.turns import Turns
from kernels.tree_attention.cut import RUN_TOKENS


class Scheduler:
    """Not thread-safe: only the engine's thread calls it."""

    def __init__(
        self,
        blocks: int,
        limits: Limits,
        copy: CopySlots,
        knows_logits: Callable[[Sequence], bool] = lambda sequence: False,
        clock: Callable[[], float] = time.monotonic,
        drafter: Drafter = lambda decoding, budget: {},
        bounds: Bounds = ANYWHERE,
    ) -> None:
        """
        Args:
            blocks: size of the cache.
            limits: sizes to keep to.
            copy: copies cache slots, of all sequences that a step admits; reads all before it writes any.
            knows_logits: whether the logits after a sequence's prompt are known, so that none of its tokens need be
                computed.
            clock: seconds, for leases.
            drafter: proposes tokens behind the last ones of decoding sequences.
            bounds: where sequences may go on.
        """
        self.limits = limits
        self.allocator = BlockAllocator(blocks)
        self.allocator.on_free.extend(pool.forget for pool in bounds.windows)
        self.tree = PrefixTree(self.allocator, limits.block_size, *bounds)
        self.states = Resumption(bounds, limits.block_size)
        self.windows = self.states.windows
        self.waiting = Turns()
        self.running = TreeOrder()
        self.counters = Counters()
        self._tails = Tails(copy)
        self._knows_logits = knows_logits
        self._clock = clock
        sizes, lend = (limits.block_size, limits.max_draft), partial(self._make_room, insist=False)
        self._drafts = Drafts(self.allocator, *sizes, drafter, lend, self._shorten)
        self._forecast: Forecast | None = None  # of those that run; None: they have changed
        self._typical_output = 64.0  # tokens, running mean of finished sequences

    @property
    def longest(self) -> int:
        """Tokens that one sequence can hold when it has the cache to itself."""
        return self.allocator.count * self.limits.block_size - 1

    def submit(self, request: Request) -> None:
        """Queue all children of a request."""
        for sequence in request.sequences:
            self.waiting.add(sequence)

    def schedule(self) -> Step:
        """The next step. Room for every row is reserved; sequences may have been admitted or preempted."""
        self._drafts.take_back()
        self._forecast = None
        self._grow()
        self._admit()
        self._copy_tails()
        # A step computes at most as many logits as a full batch has: scored prompts get what sampling leaves.
        scored = max(1, self.limits.max_batch - len(self.running))
        prefilling = [sequence for sequence in self.running if sequence.prefilling]
        shares = self.waiting.shares(prefilling, self.limits.prefill_chunk, scored)
        # Drafts get the rows that prompts and sampling leave: they make no step larger.
        logits = len(self.running) + sum(new for sequence, new in shares.items() if sequence.scoring)
        spare = min(self.limits.prefill_chunk - sum(shares.values()), self.limits.max_batch - logits)
        drafts = self._drafts.plan(self.running, spare, shares)
        step = Step([], [], [])
        common = 0
        for sequence, shared in zip(self.running.sequences, self.running.shared, strict=True):
            common = min(common, shared)
            missing = len(sequence.tokens) - sequence.computed
            if not missing:
                step.ready.append(sequence)
            elif new := shares.get(sequence, missing):
                new = self.states.cut(sequence, new)
                new, draft = self.windows.fitted(sequence, new, drafts.get(sequence, ()))
                step.chunks.append(Chunk(sequence, new, draft))
                step.shared.append(common)
                common = len(sequence.table)
        self.states.flush()
        return step

    def settled(self) -> bool:
        """Whether no waiting sequence may start before one that runs has ended."""
        full = len(self.running) >= self.limits.max_batch
        return not len(self.waiting) or (full and self.waiting.settled())

    def advance(self, chunks: list[Chunk]) -> None:
        """Record that a step was computed: prompts that it completed are cached for others at once. Drafted tokens do
        not count yet, see `accept`.
        """
        size = self.limits.block_size
        for sequence, new, draft in chunks:
            self.counters.drafted_tokens += len(draft)
            if sequence.state is not State.RUNNING:
                continue
            before = sequence.computed
            sequence.computed += new
            self.waiting.charge(sequence, new + len(draft))
            if before < sequence.prompt_length:
                self.counters.computed_tokens += new
                end = sequence.computed if not sequence.prefilling else sequence.computed // size * size
                if end // size > before // size or not sequence.prefilling:
                    block = self._cache(sequence, end)
                    self.states.keep(sequence, before)
                    if end == sequence.computed:
                        self.states.advance(sequence, block)
        self.states.flush()

    def accept(self, sequence: Sequence) -> None:
        """Record that the sequence's last token was a drafted one: its key and value are in the cache already. It is
        not in a recurrent state, which goes on from tokens that are known: there it is computed again.
        """
        assert sequence.state is State.RUNNING
        if not self.states.keeps:
            sequence.computed += 1
        self.counters.accepted_tokens += 1

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a sequence in any state. Its blocks are freed at once, or cached under a lease if it ended by itself."""
        if sequence.state is State.FINISHED:
            return
        if sequence.state is State.RUNNING:
            block = -1
            if reason in ("stop", "length"):
                lease = self._clock() + self.limits.lease_seconds
                block = self._cache(sequence, sequence.computed, lease)
                self._typical_output += 0.1 * (sequence.generated - self._typical_output)
            self._leave(sequence, block)
        self.waiting.end(sequence)
        sequence.state = State.FINISHED
        sequence.finish_reason = reason
        self.counters.finished[reason] = self.counters.finished.get(reason, 0) + 1

    def restart(self, sequence: Sequence) -> None:
        """Have a running sequence wait and be computed again, its last step left out."""
        self._put_back(sequence, -1)

    def unused_cached_blocks(self) -> int:
        """Blocks that only the prefix tree holds, which can be evicted."""
        return self.tree.unused()

    def blocks_in_use(self) -> int:
        """Blocks that running sequences hold."""
        return self.allocator.count - self.allocator.free - self.tree.unused()

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        self.allocator.check_integrity()
        self.tree.check_integrity()
        self.running.check_integrity()
        self.waiting.check_integrity()
        references = [0] * self.allocator.count
        for node in self.tree.nodes():
            for block in node.blocks:
                references[block] += 1
        for sequence in self.running:
            assert sequence.state is State.RUNNING
            assert len(set(sequence.table)) == len(sequence.table)
            assert sequence.computed <= len(sequence.table) * self.limits.block_size
            for block in sequence.table:
                references[block] += 1
        assert references == self.allocator.refs.tolist()
        cached = {block for node in self.tree.nodes() for block in node.blocks}
        self.states.check_integrity(self.running.sequences, cached)
        held = {block for sequence in self.running for block in sequence.table}
        assert self.blocks_in_use() == len(held)
        for sequence in self.waiting:
            assert sequence.state is State.WAITING
            assert not sequence.table
        rows: dict[str, int] = {}
        for sequence in self.running:
            rows[sequence.request.client] = rows.get(sequence.request.client, 0) + 1
            assert self.waiting.client(sequence).rows >= rows[sequence.request.client]

    # -- memory ---------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Give every running sequence room for its last token; if needed, preempt the latest sequences of the client
        with the most running ones.
        """
        size = self.limits.block_size
        for sequence in self.running if self.windows else ():
            self.windows.move_on(sequence, sequence.computed)
        for sequence in sorted(self.running, key=lambda s: s.arrival):
            full = len(sequence.tokens) > len(sequence.table) * size
            if full and self._give_way(sequence, lambda: self._make_room(1, insist=True)):
                sequence.table.extend(self.allocator.follow(sequence.table[-1], 1) or self.allocator.allocate(1))
            if self.windows.lacks(sequence) and self._give_way(sequence, lambda: self.windows.available > 0):
                self.windows.extend(sequence, sequence.computed + 1)

    def _give_way(self, sequence: Sequence, has_room: Callable[[], bool]) -> bool:
        """Preempt others until there is room for a running sequence; or itself, if it is the next to go."""
        while sequence.state is State.RUNNING and not has_room():
            self._preempt(self._victim())
        return sequence.state is State.RUNNING

    def _make_room(self, blocks: int, insist: bool) -> bool:
        """Evict until `blocks` are free; break leases only if the caller insists."""
        missing = blocks - self.allocator.free
        if missing > 0:
            ahead = max(missing, self.allocator.count // 64)  # in batches: the tree is walked once each
            self.counters.evicted_blocks += self.tree.evict(ahead, self._clock())
            missing = blocks - self.allocator.free
        if missing > 0 and insist:
            self.counters.evicted_blocks += self.tree.evict(missing, self._clock(), insist=True)
        return self.allocator.free >= blocks

    def _preempt(self, sequence: Sequence) -> None:
        """Release a sequence's blocks; it waits ahead of the others of its client, and is recomputed."""
        self._copy_tails()  # what is cached must be there
        self._put_back(sequence, self._cache(sequence, sequence.computed))
        self.counters.preemptions += 1

    def _put_back(self, sequence: Sequence, block: int) -> None:
        self._leave(sequence, block)
        sequence.state = State.WAITING
        sequence.computed = 0
        self.waiting.put_back(sequence)

    def _victim(self) -> Sequence:
        """The sequence to preempt next: the latest of the client with the most running sequences, so that the oldest of
        all is never preempted for another.
        """
        return max(self.running, key=lambda s: (self.waiting.client(s).rows, s.arrival))

    def _leave(self, sequence: Sequence, block: int) -> None:
        """Release what a sequence holds; its computed tokens are cached, the last in `block`, or not (-1)."""
        self._forecast = None
        self.states.end(sequence, block)
        self.running.remove(sequence)
        self.allocator.release(sequence.table)
        sequence.table = []

    def _shorten(self, sequence: Sequence, blocks: int) -> None:
        """Take from a sequence all but so many blocks."""
        self.windows.shorten(sequence, blocks)
        self.allocator.release(sequence.table[blocks:])
        del sequence.table[blocks:]

    def _copy_tails(self) -> None:
        """Copy what sequences that started share in part."""
        self._tails.copy()
        self.windows.flush()

    # -- admission ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Start waiting sequences, in the order of their clients' turns, while their demand and that of running ones
        fit.

        A sequence whose prefix another one is computing is skipped: the prefix will soon be cached.
        """
        if not len(self.waiting) or (len(self.running) >= self.limits.max_batch and self.waiting.richest().rows < 2):
            return
        computing = [s for s in self.running if s.computed < s.prompt_length]
        for sequence in self.waiting.order():
            if sooner := [other for other in computing if self._soon_cached(sequence, other)]:
                self.states.mark(sooner[0], sequence)
                continue
            if len(self.running) >= self.limits.max_batch and not self._make_way(sequence):
                break
            while not (started := self._start(sequence, computing)) and self._fair(sequence):
                if not self._make_way(sequence):
                    break
            if not started:
                break
            if sequence.computed < sequence.prompt_length:
                computing.append(sequence)

    def _make_way(self, sequence: Sequence) -> bool:
        """Preempt one sequence of the client with the most, so that a client with nothing running gets its turn within
        a step, however long the others' answers are. Preempted blocks stay cached until they are needed.
        """
        if self.waiting.client(sequence).rows or self.waiting.richest().rows < 2:
            return False
        self._preempt(self._victim())
        return True

    def _fair(self, sequence: Sequence) -> bool:
        """Whether a sequence needs no more than its client's even share of the cache."""
        needed = len(sequence.tokens) // self.limits.block_size + 1
        return needed <= self.allocator.count // self.waiting.clients

    def _soon_cached(self, sequence: Sequence, other: Sequence) -> bool:
        """Whether `other` is about to compute a block that `sequence` needs too, or the very same prompt."""
        size = self.limits.block_size
        mine, theirs = sequence.request.chain(size), other.request.chain(size)
        if mine[-1] == theirs[-1]:
            return True
        done = other.computed // size  # the next block that `other` will complete
        return done < min(len(mine), len(theirs)) - 1 and mine[done] == theirs[done]

    def _start(self, sequence: Sequence, computing: list[Sequence]) -> bool:
        """Admit a sequence if its blocks can be allocated. `computing`: those that run and compute their prompts."""
        size, limits, tokens = self.limits.block_size, self.limits, sequence.tokens
        sequence.request.prompt_logprobs = sequence.request.prompt_logprobs if not sequence.scoring else []
        known = sequence.generated == 0 and not sequence.scoring and self._knows_logits(sequence)
        if self.states.full:
            return False
        limit = 0 if sequence.scoring else len(tokens) if known else len(tokens) - 1
        match = self.tree.match(tokens, limit, sequence.request.path(size))
        match = self.states.within(sequence, match, limit)
        alone = not len(self.running)
        if not alone and not self.windows.admits(sequence, match, limits.prefill_chunk, computing, self._expected()):
            return False
        own = len(tokens) // size + 1 - len(match.blocks)  # room for the next token included: the last block is its own
        demand = own if alone else own + self._expected().growth(sequence)
        # Running sequences may use half the cache in any case: leases must not leave the engine idle.
        insist = alone or self.blocks_in_use() + demand <= self.allocator.count // 2
        refs = self.allocator.refs
        adopts = match.all and refs[match.source] == 1  # no other sequence continues it now
        continues = adopts or (match.source < 0 and bool(match.blocks) and refs[match.blocks[-1]] == 1)
        held = [*match.blocks, match.source] if match.source >= 0 else match.blocks
        held_blocks = len(match.blocks)
        self.allocator.hold(held)  # so that making room does not take what was matched
        if not self._make_room(demand - adopts, insist):
            self.allocator.release(held)
            if match.source < 0 or not insist:
                return False
            # The source itself may be in the way.
            match, adopts, continues = Match(match.blocks if self.states.anywhere else []), False, False
            demand, own = demand + held_blocks - len(match.blocks), own + held_blocks - len(match.blocks)
            self.allocator.hold(match.blocks)
            if not self._make_room(demand, insist):
                self.allocator.release(match.blocks)
                return False
        shared = held if adopts else match.blocks
        sequence.table = [*shared, *self._place(shared, own - adopts, continues)]
        sequence.computed = len(match.blocks) * size + match.copied
        if match.source >= 0 and not adopts:
            target = sequence.table[len(match.blocks)] * size
            self._tails.note(match.source * size, target, match.copied)
            self.allocator.release([match.source])
        self.states.begin(sequence, match, adopts)
        self._expected().add(sequence)
        self.waiting.start(sequence)
        sequence.state = State.RUNNING
        self.running.add(sequence)
        request = sequence.request
        cached = min(sequence.computed, sequence.prompt_length)
        self.counters.prompt_tokens += sequence.prompt_length
        self.counters.cached_tokens += cached
        if request.cached_tokens is None:
            request.cached_tokens = cached
        return True

    def _expected(self) -> Forecast:
        """What the running sequences will need; built once for all that are admitted in a step."""
        if self._forecast is None:
            self._forecast = Forecast(self.running, self.limits.block_size, self._typical_output)
        return self._forecast

    def _place(self, shared: list[int], own: int, continues: bool) -> list[int]:
        """A sequence's own blocks: right behind a prefix that it alone continues, else in a free zone, else anywhere.
        If its prompt is a long run, only the last block, into which the sequence grows, goes into a zone.
        """
        placed: list[int] | None = None
        if not shared and (own - 1) * self.limits.block_size >= RUN_TOKENS and (last := self.allocator.open_zone(1)):
            return [*self.allocator.allocate(own - 1), *last]
        if own and continues:
            placed = self.allocator.follow(shared[-1], own)
        if own and shared and placed is None:
            placed = self.allocator.open_zone(own)
        return placed or self.allocator.allocate(own)

    def _cache(self, sequence: Sequence, count: int, lease: float = 0.0) -> int:
        """Put the first `count` tokens of a running sequence into the tree; return the block of the last."""
        path = sequence.request.path(self.limits.block_size)
        blocks = self.tree.insert(sequence.tokens, count, sequence.table, lease, path, self.windows.since(sequence))
        self.windows.lend(sequence, blocks, count)
        return blocks[-1] if blocks else -1
