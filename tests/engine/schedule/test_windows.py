"""Windowed layers over the scheduler: what a window sees is in the pool, and is of the sequence's own text."""

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.snapshots import Snapshots
from engine.cache.windows import WindowPool
from engine.schedule.resumption import Bounds
from engine.schedule.scheduler import Limits, Scheduler
from engine.schedule.sequence import Request, SamplingParams, Sequence, State
from engine.schedule.step import Chunk, Step
from engine.text.output import ByteDecoder, OutputText
from kernels.tree_attention.reach import Reach

Slots = dict[int, tuple[int, ...]]  # what each holds: the text up to its token


class Machine:
    """A scheduler whose keys are the texts themselves, and whose drafts are sometimes right."""

    def __init__(
        self, blocks: int, limits: Limits, pools: list[tuple[Reach, int]], seed: int = 0, states: int = 0
    ) -> None:
        self.rng = random.Random(seed)
        self.size = limits.block_size
        self.full: Slots = {}
        self.own: list[Slots] = [{} for _ in pools]
        self.pools = [
            WindowPool(reach, blocks, count, self.size, partial(self.copy, slots))
            for (reach, count), slots in zip(pools, self.own, strict=True)
        ]
        self.computed = 0
        self.arrivals = 0
        self.known: set[tuple[int, ...]] = set()
        snapshots = Snapshots(states, lambda source, target: None, 30) if states else None
        self.scheduler = Scheduler(
            blocks,
            limits,
            partial(self.copy, self.full),
            lambda sequence: tuple(sequence.request.prompt) in self.known,
            clock=lambda: 0.0,
            drafter=self.draft,
            bounds=Bounds(snapshots, self.pools),
        )

    @staticmethod
    def copy(slots: Slots, source: list[int], target: list[int]) -> None:
        found = [slots[slot] for slot in source]
        slots.update(zip(target, found, strict=True))

    def draft(self, decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        return {sequence: [self.rng.randint(0, 9) for _ in range(self.rng.randint(0, 5))] for sequence in decoding}

    def submit(self, prompt: list[int], most: int, n: int = 1, client: str = "a") -> Request:
        request = Request(prompt, SamplingParams(max_tokens=most), n=n, client=client)
        for index in range(n):
            text = OutputText(ByteDecoder([]))
            request.sequences.append(Sequence(request, index, list(prompt), self.arrivals, text))
            self.arrivals += 1
        self.scheduler.submit(request)
        return request

    def compute(self, chunks: list[Chunk]) -> None:
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

    def step(self) -> Step:
        """Compute a step as the model does, and sample."""
        scheduler = self.scheduler
        step = scheduler.schedule()
        scheduler.check_integrity()
        self.compute(step.chunks)
        self.computed += sum(chunk.new for chunk in step.chunks)
        sampled = [chunk for chunk in step.chunks if chunk.samples]
        for chunk in sampled:
            if not chunk.sequence.generated:
                self.known.add(tuple(chunk.sequence.request.prompt))
        scheduler.advance(step.chunks)
        scheduler.check_integrity()
        for sequence, _, draft in sampled:
            self.sample(sequence, list(draft))
        for sequence in step.ready:
            self.sample(sequence, [])
        scheduler.check_integrity()
        return step

    def sample(self, sequence: Sequence, draft: list[int]) -> None:
        for guess in [*draft, -1]:
            token = guess if guess >= 0 and self.rng.random() < 0.5 else self.rng.randint(0, 9)
            sequence.tokens.append(token)
            if sequence.remaining <= 0 or self.rng.random() < 0.02:
                self.scheduler.finish(sequence, "length" if sequence.remaining <= 0 else "stop")
                return
            if token != guess:
                return
            self.scheduler.accept(sequence)

    def finish_all(self) -> None:
        for _ in range(20_000):
            if not self.scheduler.waiting and not len(self.scheduler.running):
                return
            step = self.step()
            assert step.chunks or step.ready, "something waits or runs, but nothing is computed"
        raise AssertionError("it never ends")


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
    machine = Machine(blocks, limits, pools, seed, states)
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
    machine = Machine(200, Limits(4, prefill_chunk=16), [(Reach(window=16), 10)])
    machine.submit([1] * 300, 100)
    machine.submit([2] * 300, 100)
    machine.finish_all()
    assert machine.scheduler.counters.preemptions == 0
    assert machine.pools[0].where.max() < 10


def test_siblings_begin_where_the_prompt_ends():
    """Also those that start when the first ones have gone far beyond the window, in a pool with little to spare."""
    reach = Reach(window=16)
    machine = Machine(1000, Limits(4, prefill_chunk=16, max_batch=4), [(reach, 4 * 6 + 5)])
    machine.submit([*range(30), 31], 40, n=40)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens == 31, "the prompt is computed once"


def test_siblings_leave_the_window_of_their_prompt_alone():
    """Where more of them wait than the pool has places for, those that run would take it."""
    machine = Machine(1000, Limits(4, prefill_chunk=64), [(Reach(window=16), 50)])
    for first in (0, 100, 200):
        machine.submit([*range(first, first + 90)], 40, n=16)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens <= 3 * 90 + 90


def test_prompts_that_branch_share_what_they_have_in_common():
    machine = Machine(400, Limits(4, prefill_chunk=64), [(Reach(window=12), 100)])
    root = list(range(40))
    for i in range(4):
        machine.submit([*root, *range(50 + 30 * i, 80 + 30 * i)], 1)
    machine.finish_all()
    assert machine.scheduler.counters.computed_tokens == 40 + 4 * 30


def test_a_branch_is_kept_from_the_second_time_on():
    """The first prompt that branches off where the window is gone computes it anew; those behind it need not."""
    machine = Machine(400, Limits(4, prefill_chunk=8), [(Reach(window=12), 12)])
    root = list(range(100, 200))
    for i, expected in ((0, 150), (1, 150), (2, 50)):
        before = machine.scheduler.counters.computed_tokens
        machine.submit([*root, *range(50 * i + 200, 50 * i + 250)], 1)
        machine.finish_all()
        assert machine.scheduler.counters.computed_tokens - before == expected


@pytest.mark.parametrize("states", [0, 8])
def test_conversations_go_on_where_they_ended(states: int):
    machine = Machine(100, Limits(4, prefill_chunk=16), [(Reach(window=12), 20)], states=states)
    history = list(range(30))
    for turn in range(3):
        request = machine.submit(history, 25)
        before = machine.scheduler.counters.computed_tokens
        machine.finish_all()
        if turn:
            assert machine.scheduler.counters.computed_tokens - before == 3 + 1, "the new words and the last token"
        history = [*request.sequences[0].tokens, 1, 2, 3]
