"""Random workloads over the allocator, the radix tree and the whole scheduler; integrity after every operation."""

import random
from collections.abc import Sequence as Many

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.blocks import BlockAllocator, OutOfBlocksError
from engine.cache.prefix_tree import Path, PrefixTree
from engine.schedule.limits import Limits
from engine.schedule.resumption import Bounds
from engine.schedule.sequence import Request, SamplingParams, Sequence, State
from engine.schedule.step import Chunk
from engine.schedule.tree_order import TreeOrder, common_prefix
from engine.text.output import ByteDecoder, OutputText
from tests.engine.schedule.machine import Machine

LIMITED = settings(max_examples=60, deadline=None, derandomize=True)


@LIMITED
@given(st.lists(st.tuples(st.sampled_from(["take", "hold", "drop"]), st.integers(0, 9)), max_size=60))
def test_allocator(operations: list[tuple[str, int]]):
    allocator = BlockAllocator(16)
    owned: list[list[int]] = []
    for name, number in operations:
        if name == "take":
            if number > allocator.free:
                try:
                    allocator.allocate(number)
                    raise AssertionError("took more than there is")
                except OutOfBlocksError:
                    pass
            else:
                owned.append(allocator.allocate(number))
        elif owned and name == "hold":
            blocks = owned[number % len(owned)]
            allocator.hold(blocks)
            owned.append(blocks)
        elif owned:
            allocator.release(owned.pop(number % len(owned)))
        allocator.check_integrity()
        references = np.zeros(16, dtype=int)
        for blocks in owned:
            references[blocks] += 1
        assert (references == allocator.refs).all()


def test_allocator_prefers_neighbours():
    allocator = BlockAllocator(32)
    blocks = allocator.allocate(32)
    assert blocks == list(range(32))
    allocator.release([*blocks[4:8], *blocks[10:20]])
    assert allocator.allocate(4) == blocks[16:20], "the end of the largest hole"
    assert allocator.allocate(6) == blocks[10:16]
    allocator.release([blocks[0], blocks[2]])
    assert allocator.allocate(6) == [blocks[0], *blocks[2:3], *blocks[4:8]], "in rising order where no hole fits"
    assert allocator.free == 0
    assert allocator.follow(3, 1) is None


def test_zones_and_growth_behind_a_block():
    allocator = BlockAllocator(1024)
    assert allocator.zone == 8
    first, second = allocator.open_zone(1), allocator.open_zone(2)
    assert (first, second) == ([0], [8, 9])
    assert allocator.follow(0, 7) == [1, 2, 3, 4, 5, 6, 7]
    assert allocator.follow(7, 1) is None
    assert allocator.follow(1022, 2) is None
    assert allocator.open_zone(9) is None
    assert allocator.allocate(20) == list(range(1004, 1024))
    allocator.check_integrity()


def test_a_used_cache_has_halves_and_quarters_of_zones():
    """Where each zone's first block is taken, the next tails lie half a zone further, a zone apart again."""
    allocator = BlockAllocator(1024)
    firsts = [allocator.open_zone(1) for _ in range(128)]
    assert firsts == [[zone * 8] for zone in range(128)]
    assert allocator.open_zone(5) is None
    assert allocator.open_zone(2) == [4, 5]
    assert allocator.open_zone(4) == [12, 13, 14, 15]
    for _ in range(126):
        assert allocator.open_zone(3) is not None
    assert allocator.open_zone(3) is None
    assert allocator.open_zone(1) == [2]
    allocator.check_integrity()


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=14)


@LIMITED
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("insert"), TOKENS, st.integers(0, 9)),
            st.tuples(st.just("match"), TOKENS, st.integers(0, 14)),
            st.tuples(st.just("evict"), st.integers(1, 8), st.integers(0, 9)),
        ),
        max_size=40,
    )
)
def test_radix_tree(operations: list[tuple[str, list[int] | int, int]]):
    """Against a model: the set of prefixes that were inserted. A block's content is checked by remembering it. The
    first tokens of each are a prompt whose place in the tree is remembered.
    """
    size = 3
    paths: dict[tuple[int, ...], Path] = {}

    def path(tokens: list[int]) -> Path:
        prompt = tuple(tokens[: len(tokens) * 2 // 3])
        return paths.setdefault(prompt, Path(len(prompt) // size))

    allocator = BlockAllocator(200)
    tree = PrefixTree(allocator, size)
    content: dict[int, tuple[int, ...]] = {}  # block -> the whole prefix up to its last token, as it was written
    inserted: list[tuple[int, ...]] = []
    evicted = False
    for name, what, number in operations:
        if name == "insert":
            tokens = list(what)
            blocks = allocator.allocate(-(-len(tokens) // size))
            for index, block in enumerate(blocks):
                content[block] = tuple(tokens[: (index + 1) * size])
            tree.insert([*tokens, 7], len(tokens), blocks, float(number), path(tokens))
            allocator.release(blocks)
            inserted.append(tuple(tokens))
        elif name == "match":
            tokens = list(what)
            limit = min(number, len(tokens))
            match = tree.match(tokens, limit, path(tokens))
            assert match == tree.match(tokens, limit)
            assert len(match.blocks) * size + match.copied <= limit
            for index, block in enumerate(match.blocks):
                assert content[block] == tuple(tokens[: (index + 1) * size])
            if match.copied:
                end = len(match.blocks) * size + match.copied
                assert content[match.source][:end] == tuple(tokens[:end])
            if not evicted:
                best = max((common_prefix(list(known), tokens[:limit]) for known in inserted), default=0)
                assert len(match.blocks) * size + match.copied == best
        else:
            before = allocator.free
            freed = tree.evict(int(what), now=float(number))
            assert allocator.free == before + freed
            evicted = evicted or freed > 0
        allocator.check_integrity()
        tree.check_integrity()
    tree.evict(10**6, now=1e9)
    assert allocator.free == allocator.count
    assert allocator.free == 200
    tree.check_integrity()


def test_eviction_takes_the_least_recently_used_leaf_and_keeps_leases_and_users():
    allocator = BlockAllocator(100)
    tree = PrefixTree(allocator, 2)
    for start, lease in ((0, 0.0), (10, 50.0), (20, 0.0)):
        blocks = allocator.allocate(2)
        tree.insert([start, 1, start, 2], 4, blocks, lease)
        allocator.release(blocks)
    tree.match([0, 1, 0, 2], 4)  # used last
    assert tree.evict(1, now=10.0) == 1
    assert len(tree.match([20, 1, 20, 2], 4).blocks) == 1, "the end went first"
    users = tree.match([0, 1, 0, 2], 4).blocks
    allocator.hold(users)
    assert tree.evict(100, now=10.0) == 1
    assert len(tree.match([10, 1, 10, 2], 4).blocks) == 2, "leased"
    assert tree.evict(100, now=10.0, insist=True) == 2
    assert tree.match([0, 1, 0, 2], 4).blocks == users
    tree.check_integrity()


@LIMITED
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 2), max_size=6)), max_size=30))
def test_tree_order(operations: list[tuple[bool, list[int]]]):
    order = TreeOrder()
    private = 100
    for remove, path in operations:
        if remove and len(order):
            order.remove(order.sequences[len(path) % len(order)])
        else:
            text = OutputText(ByteDecoder([]))
            sequence = Sequence(Request([1], SamplingParams()), 0, [1], 0, text)
            shared = [sum(3**i * (step + 1) for i, step in enumerate(path[: end + 1])) for end in range(len(path))]
            sequence.table = [*shared, private]
            private += 1
            order.add(sequence)
        order.check_integrity()
        tables = [sequence.table for sequence in order]
        assert tables == sorted(tables)


class Plain(Machine):
    """Nothing is guessed. Keeps what is copied, and checks that what is computed has room."""

    MOST_DRAFTED = 0

    def __init__(self, blocks: int, limits: Limits, seed: int) -> None:
        self.copies: list[tuple[list[int], list[int]]] = []
        super().__init__(blocks, limits, lambda *copied: self.copies.append(copied), Bounds(), seed)

    def compute(self, chunks: Many[Chunk]) -> None:
        for sequence, new, _ in chunks:
            assert new >= 1
            assert sequence.computed + new <= len(sequence.table) * self.scheduler.limits.block_size


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(6, 40), st.integers(1, 6))
def test_scheduler_under_random_load(seed: int, blocks: int, size: int):
    """Requests that share, aborts, time passing, memory short: nothing is lost, all finish."""
    rng = random.Random(seed)
    limits = Limits(size, max_batch=rng.randint(1, 8), prefill_chunk=rng.randint(1, 20), lease_seconds=5.0)
    machine = Plain(blocks, limits, seed)
    scheduler = machine.scheduler
    live: list[Request] = []
    for _ in range(60):
        action = rng.random()
        if action < 0.2:
            length = rng.randint(1, max(1, scheduler.longest // 2))
            most = min(scheduler.longest - length, 30)
            if most >= 1:
                prompt = [rng.randint(0, 1) if i < length - 2 else rng.randint(0, 9) for i in range(length)]
                live.append(machine.submit(prompt, rng.randint(1, most), rng.randint(1, 4), rng.choice("abc")))
        elif action < 0.25 and live:
            for sequence in rng.choice(live).sequences:
                scheduler.finish(sequence, "abort")
        elif action < 0.28:
            scheduler.tree.clear()  # as after a step that computed no numbers: sequences that run go on
        else:
            machine.step()
        scheduler.check_integrity()
    machine.finish_all()
    assert all(sequence.state is State.FINISHED for request in live for sequence in request.sequences)
    assert scheduler.allocator.free + scheduler.unused_cached_blocks() == blocks
    for source, target in machine.copies:  # what is copied from may be given away meanwhile, and be copied to then
        assert not any(slot in source[at:] for at, slot in enumerate(target))
