"""Windowed layers over the scheduler: what a window sees is in the pool, and is of the sequence's own text."""

import random
from collections.abc import Sequence as Many
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.snapshots import Snapshots
from engine.cache.windows import WindowPool
from engine.schedule.limits import Limits
from engine.schedule.resumption import Bounds
from engine.schedule.sequence import State
from engine.schedule.step import Chunk
from kernels.tree_attention.reach import Reach
from tests.engine.schedule.machine import Machine

Slots = dict[int, tuple[int, ...]]  # what each holds: the text up to its token


class Keys(Machine):
    """Keys are the texts themselves."""

    MOST_DRAFTED, STOPS = 5, 0.02

    def __init__(
        self, blocks: int, limits: Limits, pools: list[tuple[Reach, int]], seed: int = 0, states: int = 0
    ) -> None:
        self.size = limits.block_size
        self.full: Slots = {}
        self.own: list[Slots] = [{} for _ in pools]
        self.pools = [
            WindowPool(reach, blocks, count, self.size, partial(self.copy, slots))
            for (reach, count), slots in zip(pools, self.own, strict=True)
        ]
        snapshots = Snapshots(states, lambda source, target: None, 30) if states else None
        super().__init__(blocks, limits, partial(self.copy, self.full), Bounds(snapshots, self.pools), seed)

    @staticmethod
    def copy(slots: Slots, source: list[int], target: list[int]) -> None:
        found = [slots[slot] for slot in source]
        slots.update(zip(target, found, strict=True))

    def compute(self, chunks: Many[Chunk]) -> None:
        """Write all keys, then look at all that rows see."""
        spaces = [(None, self.full), *zip(self.pools, self.own, strict=True)]
        for read in (False, True):
            for sequence, new, draft in chunks:
                text = [*sequence.tokens[: sequence.computed + new], *draft]
                for at in range(sequence.computed, len(text)):
                    for pool, slots in spaces:
                        first = pool.reach.floor(at) if read and pool else 0 if read else at
                        for key in range(first, at + 1):
                            block = sequence.table[key // self.size]
                            place = block if pool is None else int(pool.where[block])
                            assert place >= 0, "a token in the window has no place"
                            slot = place * self.size + key % self.size
                            if read:
                                assert slots[slot] == tuple(text[: key + 1]), "the keys of another text"
                            else:
                                slots[slot] = tuple(text[: key + 1])


REACHES = st.sampled_from([Reach(window=1), Reach(window=5), Reach(window=16), Reach(window=33), Reach(chunk=12)])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(12, 60), st.integers(1, 6), st.lists(REACHES, min_size=1, max_size=2),
    st.integers(0, 12), st.sampled_from([0, 0, 2, 6]),
)  # fmt: skip
def test_random_load(seed: int, blocks: int, size: int, reaches: list[Reach], more: int, states: int):
    """Requests that share, follow-ups, aborts, restarts, guesses, pools that are short: all finish, and no row sees
    another's keys.
    """
    rng = random.Random(seed)
    limits = Limits(
        size,
        max_batch=rng.randint(1, 8),
        prefill_chunk=rng.randint(1, 40),
        lease_seconds=5.0,
        max_draft=rng.choice([0, 5]),
    )
    pools = [(reach, min(blocks, least(reach, size) + more)) for reach in reaches]
    machine = Keys(blocks, limits, pools, seed, states)
    scheduler, live = machine.scheduler, []
    for _ in range(80):
        action = rng.random()
        if action < 0.25:
            before = rng.choice(live).sequences[0].tokens if live and rng.random() < 0.5 else []
            length = rng.randint(1, max(1, scheduler.longest // 2))
            tail = [rng.randint(0, 1) if i < length - 2 else rng.randint(0, 9) for i in range(length)]
            prompt = [*before, *tail][: scheduler.longest // 2]
            most = min(scheduler.longest - len(prompt), 40)
            live.append(machine.submit(prompt, rng.randint(1, most), rng.randint(1, 4), rng.choice("abc")))
        elif action < 0.3 and live:
            for sequence in rng.choice(live).sequences:
                scheduler.finish(sequence, "abort")
        elif action < 0.33 and len(scheduler.running):
            scheduler.restart(rng.choice(scheduler.running.sequences))
        else:
            machine.step()
        scheduler.check_integrity()
    machine.finish_all()
    assert all(sequence.state is State.FINISHED for request in live for sequence in request.sequences)


def least(reach: Reach, size: int) -> int:
    """Places with which any sequence can be computed alone."""
    return reach.span // size + 3


def test_few_places_serve_long_texts():
    """One after the other, with a pool of 10 blocks of 4 tokens for a window of 16."""
    machine = Keys(200, Limits(4, prefill_chunk=16), [(Reach(window=16), 10)])
    machine.submit([1] * 300, 100)
    machine.submit([2] * 300, 100)
    machine.finish_all()
    assert machine.scheduler.counters.preemptions == 0
    assert machine.pools[0].where.max() < 10


def test_siblings_begin_where_the_prompt_ends():
    """Also those that start when the first ones have gone far beyond the window, in a pool with little to spare."""
    reach = Reach(window=16)
    machine = Keys(1000, Limits(4, prefill_chunk=16, max_batch=4), [(reach, 4 * 6 + 5)])
    machine.submit([*range(30), 31], 40, n=40)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens == 31, "the prompt is computed once"


def test_siblings_leave_the_window_of_their_prompt_alone():
    """Where more of them wait than the pool has places for, those that run would take it."""
    machine = Keys(1000, Limits(4, prefill_chunk=64), [(Reach(window=16), 50)])
    for first in (0, 100, 200):
        machine.submit([*range(first, first + 90)], 40, n=16)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens <= 3 * 90 + 90


def test_prompts_that_branch_share_what_they_have_in_common():
    machine = Keys(400, Limits(4, prefill_chunk=64), [(Reach(window=12), 100)])
    root = list(range(40))
    for i in range(4):
        machine.submit([*root, *range(50 + 30 * i, 80 + 30 * i)], 1)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens == 40 + 4 * 30


def test_a_branch_is_kept_from_the_second_time_on():
    """The first prompt that branches off where the window is gone computes it anew; those behind it need not."""
    machine = Keys(400, Limits(4, prefill_chunk=8), [(Reach(window=12), 12)])
    root = list(range(100, 200))
    for i, expected in ((0, 150), (1, 150), (2, 50)):
        before = machine.scheduler.counters.computed_tokens
        machine.submit([*root, *range(50 * i + 200, 50 * i + 250)], 1)
        machine.finish_all()
        assert machine.scheduler.counters.computed_tokens - before == expected


@pytest.mark.parametrize("states", [0, 8])
def test_conversations_go_on_where_they_ended(states: int):
    machine = Keys(100, Limits(4, prefill_chunk=16), [(Reach(window=12), 20)], states=states)
    history = list(range(30))
    for turn in range(3):
        request = machine.submit(history, 25)
        before = machine.scheduler.counters.computed_tokens
        machine.finish_all()
        if turn:
            assert machine.scheduler.counters.computed_tokens - before == 3 + 1, "the new words and the last token"
        history = [*request.sequences[0].tokens, 1, 2, 3]
