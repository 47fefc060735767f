"""Recurrent states over the scheduler: a sequence's slot always holds the state behind its computed tokens."""

import random
from collections.abc import Sequence as Many

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.snapshots import Snapshots
from engine.schedule.limits import Limits
from engine.schedule.resumption import Bounds
from engine.schedule.sequence import Sequence, State
from engine.schedule.step import Chunk
from tests.engine.schedule.machine import Machine


class States(Machine):
    """States are the tokens themselves."""

    def __init__(self, blocks: int, slots: int, limits: Limits, seed: int = 0, spacing: int = 1) -> None:
        self.slots: list[tuple[int, ...]] = [(-1,)] * slots
        super().__init__(
            blocks, limits, lambda source, target: None, Bounds(Snapshots(slots, self.copy, spacing)), seed
        )

    def copy(self, source: list[int], target: list[int]) -> None:
        assert len(set(target)) == len(target)
        for slot, state in zip(target, [self.slots[slot] for slot in source], strict=True):
            self.slots[slot] = state

    def compute(self, chunks: Many[Chunk]) -> None:
        for sequence, new, _ in chunks:
            begin = sequence.computed
            if begin:
                assert self.slots[sequence.slot] == tuple(sequence.tokens[:begin]), "the state of another prefix"
            self.slots[sequence.slot] = tuple(sequence.tokens[: begin + new])

    def ready(self, sequence: Sequence) -> None:
        assert self.slots[sequence.slot] == tuple(sequence.tokens)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(6, 40), st.integers(1, 6), st.integers(2, 12))
def test_random_load(seed: int, blocks: int, size: int, slots: int):
    """Requests that share, aborts, restarts, blocks and slots short: all finish, and no state is of another prefix."""
    rng = random.Random(seed)
    limits = Limits(
        size,
        max_batch=rng.randint(1, 8),
        prefill_chunk=rng.randint(1, 20),
        lease_seconds=5.0,
        max_draft=rng.choice([0, 3]),
    )
    machine = States(blocks, slots, limits, seed, spacing=rng.choice([1, 8, 100]))
    scheduler, live = machine.scheduler, []
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
        elif action < 0.3 and len(scheduler.running):
            scheduler.restart(rng.choice(scheduler.running.sequences))
        else:
            machine.step()
        scheduler.check_integrity()
    machine.finish_all()
    assert all(sequence.state is State.FINISHED for request in live for sequence in request.sequences)


def test_siblings_begin_where_the_prompt_ends():
    machine = States(100, 40, Limits(4, prefill_chunk=16))
    machine.submit(list(range(30)), 1, n=16)
    machine.finish_all()
    assert machine.computed == 30, "the prompt is computed once, and no token of it for the siblings"


def test_prompts_that_branch_share_what_they_have_in_common():
    """Those that wait tell the first where they branch off; one that comes later, only from where others did."""
    machine = States(400, 40, Limits(4, prefill_chunk=64), spacing=1000)
    root = list(range(40))
    prompts = [[*root, *range(50 + 10 * i, 60 + 10 * i)] for i in range(4)]
    for prompt in prompts:
        machine.submit(prompt, 1)
    machine.finish_all()
    assert machine.computed == 40 + 4 * 10
    for i, expected in ((5, 36), (6, 36 - 24)):  # from the beginning; then from the last whole block
        machine.computed = 0
        machine.submit([*root[:26], *range(100 * i, 100 * i + 4), *range(6)], 1)
        machine.finish_all()
        assert machine.computed == expected


def test_conversations_go_on_where_they_ended():
    machine = States(100, 8, Limits(4, prefill_chunk=16), spacing=1000)
    request = machine.submit(list(range(30)), 9)
    machine.finish_all()
    history = request.sequences[0].tokens
    machine.computed = 0
    machine.submit([*history, 1, 2, 3], 1)
    machine.finish_all()
    assert machine.computed == 3 + 1, "the new words and the last token of the answer"


def test_long_prompts_leave_snapshots_now_and_then():
    machine = States(100, 20, Limits(4, prefill_chunk=16), spacing=30)
    machine.submit([1] * 100 + [2], 1)
    machine.finish_all()
    machine.computed = 0
    machine.submit([1] * 100 + [3], 1)
    machine.finish_all()
    assert machine.computed == 101 - 96, "chunks end at 32, 64 and 96 tokens at least"


def test_snapshots_go_with_their_blocks():
    copies: list[tuple[list[int], list[int]]] = []
    snapshots = Snapshots(4, lambda source, target: copies.append((source, target)))
    slot = snapshots.begin(None)
    snapshots.take(slot, (7, 4))
    snapshots.take(slot, (8, 2))
    snapshots.flush()
    assert snapshots.deepest([7, 8], 4, 8) == 6
    assert snapshots.deepest([7, 8], 4, 5) == 4
    assert snapshots.deepest([8], 4, 1) == 0
    snapshots.move(8, 9)
    snapshots.forget([7])
    assert snapshots.blocks() == {9}
    snapshots.end(slot, (9, 3))
    assert snapshots.deepest([1, 9], 4, 8) == 7
    snapshots.check_integrity([])


def test_the_least_recently_used_snapshot_gives_way():
    snapshots = Snapshots(4, lambda source, target: None)
    slot = snapshots.begin(None)
    for block in range(5):
        snapshots.take(slot, (block, 1))
        if block > 1:
            snapshots.take(slot, (1, 1))  # used again
    assert snapshots.blocks() == {1, 3, 4}
    snapshots.check_integrity([slot])
