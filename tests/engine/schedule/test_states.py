"""Recurrent states over the scheduler: a sequence's slot always holds the state behind its computed tokens."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.snapshots import Snapshots
from engine.schedule.resumption import Bounds
from engine.schedule.scheduler import Limits, Scheduler
from engine.schedule.sequence import Request, SamplingParams, Sequence, State
from engine.schedule.step import Step
from engine.text.output import ByteDecoder, OutputText


class Machine:
    """A scheduler whose states are the tokens themselves, and whose drafts are sometimes right."""

    def __init__(self, blocks: int, slots: int, limits: Limits, seed: int = 0, spacing: int = 1) -> None:
        self.rng = random.Random(seed)
        self.slots: list[tuple[int, ...]] = [(-1,)] * slots
        self.now = 0.0
        self.computed = 0
        self.arrivals = 0
        self.snapshots = Snapshots(slots, self.copy, spacing)
        self.scheduler = Scheduler(
            blocks,
            limits,
            lambda source, target: None,
            self.knows_logits,
            clock=lambda: self.now,
            drafter=self.draft,
            bounds=Bounds(self.snapshots),
        )
        self.known: set[tuple[int, ...]] = set()

    def copy(self, source: list[int], target: list[int]) -> None:
        assert len(set(target)) == len(target)
        for slot, state in zip(target, [self.slots[slot] for slot in source], strict=True):
            self.slots[slot] = state

    def knows_logits(self, sequence: Sequence) -> bool:
        return tuple(sequence.request.prompt) in self.known

    def draft(self, decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        return {sequence: [self.rng.randint(0, 9) for _ in range(self.rng.randint(0, 3))] for sequence in decoding}

    def submit(self, prompt: list[int], most: int, n: int = 1, client: str = "a") -> Request:
        request = Request(prompt, SamplingParams(max_tokens=most), n=n, client=client)
        for index in range(n):
            text = OutputText(ByteDecoder([]))
            request.sequences.append(Sequence(request, index, list(prompt), self.arrivals, text))
            self.arrivals += 1
        self.scheduler.submit(request)
        return request

    def step(self) -> Step:
        """Compute a step as the model does, and sample."""
        self.now += 0.1
        scheduler = self.scheduler
        step = scheduler.schedule()
        scheduler.check_integrity()
        for sequence, new, _ in step.chunks:
            begin = sequence.computed
            if begin:
                assert self.slots[sequence.slot] == tuple(sequence.tokens[:begin]), "the state of another prefix"
            self.slots[sequence.slot] = tuple(sequence.tokens[: begin + new])
            self.computed += new
        sampled = [chunk for chunk in step.chunks if chunk.samples]
        for chunk in sampled:
            if not chunk.sequence.generated:
                self.known.add(tuple(chunk.sequence.request.prompt))
        scheduler.advance(step.chunks)
        scheduler.check_integrity()
        for sequence, _, draft in sampled:
            self.sample(sequence, list(draft))
        for sequence in step.ready:
            assert self.slots[sequence.slot] == tuple(sequence.tokens)
            self.sample(sequence, [])
        scheduler.check_integrity()
        return step

    def sample(self, sequence: Sequence, draft: list[int]) -> None:
        for guess in [*draft, -1]:
            token = guess if guess >= 0 and self.rng.random() < 0.5 else self.rng.randint(0, 9)
            sequence.tokens.append(token)
            if sequence.remaining <= 0 or self.rng.random() < 0.05:
                self.scheduler.finish(sequence, "length" if sequence.remaining <= 0 else "stop")
                return
            if token != guess:
                return
            self.scheduler.accept(sequence)


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
    machine = Machine(blocks, slots, limits, seed, spacing=rng.choice([1, 8, 100]))
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
    for _ in range(20_000):
        if not scheduler.waiting and not len(scheduler.running):
            break
        step = machine.step()
        assert step.chunks or step.ready, "something waits or runs, but nothing is computed"
    assert all(sequence.state is State.FINISHED for request in live for sequence in request.sequences)


def finish_all(machine: Machine) -> None:
    while machine.scheduler.waiting or len(machine.scheduler.running):
        machine.step()


def test_siblings_begin_where_the_prompt_ends():
    machine = Machine(100, 40, Limits(4, prefill_chunk=16))
    machine.submit(list(range(30)), 1, n=16)
    finish_all(machine)
    assert machine.computed == 30, "the prompt is computed once, and no token of it for the siblings"


def test_prompts_that_branch_share_what_they_have_in_common():
    """Those that wait tell the first where they branch off; one that comes later, only from where others did."""
    machine = Machine(400, 40, Limits(4, prefill_chunk=64), spacing=1000)
    root = list(range(40))
    prompts = [[*root, *range(50 + 10 * i, 60 + 10 * i)] for i in range(4)]
    for prompt in prompts:
        machine.submit(prompt, 1)
    finish_all(machine)
    assert machine.computed == 40 + 4 * 10
    for i, expected in ((5, 36), (6, 36 - 24)):  # from the beginning; then from the last whole block
        machine.computed = 0
        machine.submit([*root[:26], *range(100 * i, 100 * i + 4), *range(6)], 1)
        finish_all(machine)
        assert machine.computed == expected


def test_conversations_go_on_where_they_ended():
    machine = Machine(100, 8, Limits(4, prefill_chunk=16), spacing=1000)
    request = machine.submit(list(range(30)), 9)
    finish_all(machine)
    history = request.sequences[0].tokens
    machine.computed = 0
    machine.submit([*history, 1, 2, 3], 1)
    finish_all(machine)
    assert machine.computed == 3 + 1, "the new words and the last token of the answer"


def test_long_prompts_leave_snapshots_now_and_then():
    machine = Machine(100, 20, Limits(4, prefill_chunk=16), spacing=30)
    machine.submit([1] * 100 + [2], 1)
    finish_all(machine)
    machine.computed = 0
    machine.submit([1] * 100 + [3], 1)
    finish_all(machine)
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
