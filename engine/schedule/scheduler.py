"""Which sequences run, with which blocks, and how many of their tokens each step computes.

A sequence waits, then runs: its prompt is computed in chunks beside the rows of those that decode, then one token a
step. It finishes, or is preempted (its blocks are given up and it waits again, to be recomputed) when others
need the room. Requests never fail for lack of memory: one that can never fit is refused earlier. Several
clients at once take turns (`engine.schedule.turns`): no client waits for another's thousand samples.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.cache.blocks import BlockAllocator
from engine.cache.prefix_tree import Match, PrefixTree
from engine.schedule.drafts import Drafter, Drafts
from engine.schedule.forecast import Forecast
from engine.schedule.sequence import FinishReason, Request, Sequence, State
from engine.schedule.step import Chunk, Step
from engine.schedule.tree_order import TreeOrder
from engine.schedule.turns import Turns
from kernels.tree_attention.cut import RUN_TOKENS

COPIED = 4096  # slots at once, which take so many tokens' room beside the cache
CopySlots = Callable[[list[int], list[int]], None]  # source and target slots in the cache


@dataclass(frozen=True)
class Limits:
    """Sizes that the scheduler keeps to."""

    block_size: int = 16  # tokens
    max_batch: int = 256  # sequences
    prefill_chunk: int = 512  # prompt tokens a step
    lease_seconds: float = 120.0
    max_draft: int = 0  # tokens drafted per sequence and step; 0: no speculation
    max_waiting: int = 20_000  # sequences that wait; the core refuses more


@dataclass
class Counters:
    """What happened since the start; only ever grows."""

    computed_tokens: int = 0  # rows that went through the model for a prompt, recomputation included
    cached_tokens: int = 0  # prompt tokens taken from the cache instead
    prompt_tokens: int = 0  # of all sequences admitted, each child counted
    generated_tokens: int = 0
    drafted_tokens: int = 0  # rows that went through the model for a draft
    accepted_tokens: int = 0  # of these, those that were sampled
    preemptions: int = 0
    evicted_blocks: int = 0
    finished: dict[str, int] = field(default_factory=dict)  # sequences by reason


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
        """
        self.limits = limits
        self.allocator = BlockAllocator(blocks)
        self.tree = PrefixTree(self.allocator, limits.block_size)
        self.waiting = Turns()
        self.running = TreeOrder()
        self.counters = Counters()
        self._copy = copy
        self._sources: list[int] = []  # slots to be copied before the next step
        self._targets: list[int] = []
        self._knows_logits = knows_logits
        self._clock = clock
        self._drafts = Drafts(
            self.allocator, limits.block_size, limits.max_draft, drafter, lambda blocks: self._make_room(blocks, False)
        )
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
        drafts = self._drafts.plan(self.running, spare)
        step = Step([], [], [])
        common = 0
        for sequence, shared in zip(self.running.sequences, self.running.shared, strict=True):
            common = min(common, shared)
            missing = len(sequence.tokens) - sequence.computed
            if not missing:
                step.ready.append(sequence)
            elif new := shares.get(sequence, missing):
                step.chunks.append(Chunk(sequence, new, drafts.get(sequence, ())))
                step.shared.append(common)
                common = len(sequence.table)
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
                    self._cache(sequence, end)

    def accept(self, sequence: Sequence) -> None:
        """Record that the sequence's last token was a drafted one: its key and value are in the cache already."""
        assert sequence.state is State.RUNNING
        sequence.computed += 1
        self.counters.accepted_tokens += 1

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a sequence in any state. Its blocks are freed at once, or cached under a lease if it ended by itself."""
        if sequence.state is State.FINISHED:
            return
        if sequence.state is State.RUNNING:
            if reason in ("stop", "length"):
                lease = self._clock() + self.limits.lease_seconds
                self._cache(sequence, sequence.computed, lease)
                self._typical_output += 0.1 * (sequence.generated - self._typical_output)
            self._leave(sequence)
        self.waiting.end(sequence)
        sequence.state = State.FINISHED
        sequence.finish_reason = reason
        self.counters.finished[reason] = self.counters.finished.get(reason, 0) + 1

    def unused_cached_blocks(self) -> int:
        """Blocks that only the prefix tree holds, which can be evicted."""
        return self.allocator.count - self.allocator.free - self.blocks_in_use()

    def blocks_in_use(self) -> int:
        """Blocks that running sequences hold: those outside the tree, and those in it with a second owner."""
        outside = self.allocator.count - self.allocator.free - self.tree.blocks
        return outside + int((self.allocator.refs > 1).sum())

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
        for sequence in sorted(self.running, key=lambda s: s.arrival):
            if sequence.state is not State.RUNNING or len(sequence.tokens) <= len(sequence.table) * size:
                continue
            while not self._make_room(1, insist=True):
                victim = self._victim()
                self._preempt(victim)
                if victim is sequence:
                    break
            else:
                sequence.table.extend(self.allocator.follow(sequence.table[-1], 1) or self.allocator.allocate(1))

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
        self._cache(sequence, sequence.computed)
        self._leave(sequence)
        sequence.state = State.WAITING
        sequence.computed = 0
        self.counters.preemptions += 1
        self.waiting.put_back(sequence)

    def _victim(self) -> Sequence:
        """The sequence to preempt next: the latest of the client with the most running sequences, so that the oldest of
        all is never preempted for another.
        """
        return max(self.running, key=lambda s: (self.waiting.client(s).rows, s.arrival))

    def _leave(self, sequence: Sequence) -> None:
        self._forecast = None
        self.running.remove(sequence)
        self.allocator.release(sequence.table)
        sequence.table = []

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
            if any(self._soon_cached(sequence, other) for other in computing):
                continue
            if len(self.running) >= self.limits.max_batch and not self._make_way(sequence):
                break
            while not (started := self._start(sequence)) and self._fair(sequence) and self._make_way(sequence):
                pass
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

    def _start(self, sequence: Sequence) -> bool:
        """Admit a sequence if its blocks can be allocated."""
        size = self.limits.block_size
        tokens = sequence.tokens
        sequence.request.prompt_logprobs = sequence.request.prompt_logprobs if not sequence.scoring else []
        known = sequence.generated == 0 and not sequence.scoring and self._knows_logits(sequence)
        limit = 0 if sequence.scoring else len(tokens) if known else len(tokens) - 1
        match = self.tree.match(tokens, limit, sequence.request.path(size))
        alone = not len(self.running)
        own = len(tokens) // size + 1 - len(match.blocks)  # room for the next token included: the last block is its own
        demand = own if alone else own + self._expected().growth(sequence)
        # Running sequences may use half the cache in any case: leases must not leave the engine idle.
        insist = alone or self.blocks_in_use() + demand <= self.allocator.count // 2
        refs = self.allocator.refs
        adopts = match.all and refs[match.source] == 1  # no other sequence continues it now
        continues = adopts or (match.source < 0 and bool(match.blocks) and refs[match.blocks[-1]] == 1)
        held = [*match.blocks, match.source] if match.source >= 0 else match.blocks
        self.allocator.hold(held)  # so that making room does not take what was matched
        if not self._make_room(demand - adopts, insist):
            self.allocator.release(held)
            if match.source < 0 or not insist:
                return False
            match, adopts, continues = Match(match.blocks), False, False  # the source itself may be in the way
            self.allocator.hold(match.blocks)
            if not self._make_room(demand, insist):
                self.allocator.release(match.blocks)
                return False
        shared = held if adopts else match.blocks
        sequence.table = [*shared, *self._place(shared, own - adopts, continues)]
        sequence.computed = len(match.blocks) * size + match.copied
        if match.source >= 0 and not adopts:
            self._copy_tail(sequence, match)
            self.allocator.release([match.source])
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

    def _copy_tail(self, sequence: Sequence, match: Match) -> None:
        """Note what must be copied before the next step, for all sequences at once."""
        size = self.limits.block_size
        source, target = match.source * size, sequence.table[len(match.blocks)] * size
        self._sources.extend(range(source, source + match.copied))
        self._targets.extend(range(target, target + match.copied))

    def _copy_tails(self) -> None:
        """Copy what was noted. Blocks may have been given away since, but none has been written to."""
        for first in range(0, len(self._sources), COPIED):
            part = slice(first, first + COPIED)
            self._copy(self._sources[part], self._targets[part])
        self._sources, self._targets = [], []

    def _cache(self, sequence: Sequence, count: int, lease: float = 0.0) -> None:
        """Put the first `count` tokens of a running sequence into the tree."""
        path = sequence.request.path(self.limits.block_size)
        self.tree.insert(sequence.tokens, count, sequence.table, lease, path)
