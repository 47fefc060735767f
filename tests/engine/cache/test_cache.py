"""What is computed, what is served from the cache, and who holds which blocks."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.core import Core
from engine.errors import ContextLengthError, OverloadedError
from engine.schedule.sequence import Request, SamplingParams, State
from kernels.tree_attention.cut import CutCost
from tests.engine.test_greedy import greedy, prompts


def counts(core: Core) -> tuple[int, int]:
    return core.scheduler.counters.computed_tokens, core.scheduler.counters.cached_tokens


@pytest.mark.parametrize("length", [3, 8, 40, 41, 47, 200])
def test_n_samples_prefill_once(make_core: Callable[..., Core], length: int):
    core = make_core()
    request = Request(list(range(10, 10 + length)), SamplingParams(max_tokens=6, ignore_eos=True, seed=1), n=16)
    core.run([request])
    assert counts(core) == (length, 15 * length)
    assert request.cached_tokens == 0
    assert request.completion_tokens == 96
    again = Request(list(range(10, 10 + length)), SamplingParams(max_tokens=6, ignore_eos=True, seed=1), n=16)
    core.run([again])
    assert counts(core) == (length, 31 * length)
    assert again.cached_tokens == length


def test_equal_prompts_in_separate_requests_prefill_once_too(make_core: Callable[..., Core]):
    core = make_core()
    requests = [greedy(list(range(10, 71)), 4) for _ in range(10)]
    core.run(requests)
    assert counts(core) == (61, 9 * 61)
    assert [request.cached_tokens for request in requests] == [0] + [61] * 9


def test_prompts_that_share_a_prefix_wait_for_it_and_compute_only_their_own(make_core: Callable[..., Core]):
    core = make_core(prefill_chunk=16)
    texts = prompts(10, 64, 5)  # 64 tokens by all, 32 more by each half
    core.run([greedy(text, 4) for text in texts])
    distinct = len({tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)})
    computed = core.scheduler.counters.computed_tokens
    assert computed <= distinct * 1.02


def test_partial_blocks_are_shared_too(make_core: Callable[..., Core]):
    core = make_core(block_size=16)
    core.run([greedy(list(range(10, 40)), 2)])
    other = greedy([*range(10, 37), 99, 98], 2)
    core.run([other])
    assert other.cached_tokens == 27


def test_decoding_shares_the_prefix_and_says_so(make_core: Callable[..., Core]):
    core = make_core(block_size=8)
    core.run([Request(list(range(10, 74)), SamplingParams(max_tokens=5, ignore_eos=True), n=8)])
    # The first child is a step ahead: 3 steps of 8 rows and one of 7; all rows but one read nothing of 64 tokens.
    assert core.stats.shared_tokens == (3 * 7 + 6) * 64
    core.runner.cost = CutCost(10**9)
    core.run([Request(list(range(10, 74)), SamplingParams(max_tokens=5, ignore_eos=True), n=8)])
    assert core.stats.shared_tokens == (3 * 7 + 6) * 64, "the benchmarks change the rule so"


def test_abort_frees_blocks_at_once(make_core: Callable[..., Core]):
    core = make_core()
    total = core.scheduler.allocator.count
    request = Request(list(range(10, 110)), SamplingParams(max_tokens=300, ignore_eos=True), n=4)
    core.submit(request)
    for _ in range(40):
        core.step()
    assert len(core.scheduler.running) == 4
    core.abort(request)
    core.scheduler.check_integrity()
    assert not core.busy
    assert core.scheduler.allocator.free + core.scheduler.unused_cached_blocks() == total
    assert core.scheduler.allocator.free >= total - 13  # nothing but the prompt is kept
    assert all(sequence.state is State.FINISHED for sequence in request.sequences)


def test_abort_while_waiting_and_while_prefilling(make_core: Callable[..., Core]):
    core = make_core(prefill_chunk=8)
    first, second = (Request(list(range(10, 90)), SamplingParams(max_tokens=9), n=3) for _ in range(2))
    core.submit(first)
    core.submit(second)
    core.step()
    core.abort(first)
    core.scheduler.check_integrity()
    core.run([])  # the second goes on from what the first had computed
    assert second.finished
    assert second.cached_tokens == 8


def test_leases_pin_a_prefix_for_a_time(make_core: Callable[..., Core]):
    now = [0.0]
    core = make_core(blocks=40, clock=lambda: now[0], lease_seconds=60)
    kept = greedy(list(range(10, 74)), 2)
    core.run([kept])
    now[0] = 30.0
    for start in range(100, 180, 20):  # pressure from others, one after the other
        core.run([greedy([start + i % 100 for i in range(150)], 2) for _ in range(1)])
    again = greedy(list(range(10, 74)), 2)
    core.run([again])
    # Alone in the cache a request may take everything, leases too, but the oldest lease goes first only if it must.
    core.scheduler.check_integrity()
    tree = core.scheduler.tree
    assert tree.evict(1000, now=29.0) == 0, "everything left is leased"
    assert tree.evict(1000, now=200.0) > 0
    core.scheduler.check_integrity()


def test_a_leased_prefix_survives_while_others_can_wait(make_core: Callable[..., Core]):
    now = [0.0]
    core = make_core(blocks=40, clock=lambda: now[0], lease_seconds=60)
    core.run([greedy(list(range(10, 138)), 2)])  # 17 blocks, leased
    running = greedy(list(range(200, 280)), 60)  # grows to 18 blocks
    core.submit(running)
    core.step()
    core.submit(greedy(list(range(300, 380)), 10))  # 11 blocks: would fit only without the lease
    for _ in range(20):
        core.step()
    assert len(core.scheduler.waiting) == 1
    match = core.scheduler.tree.match(list(range(10, 138)), 128)
    assert len(match.blocks) == 16
    core.run([])  # once nothing else runs, the lease yields
    core.scheduler.check_integrity()


def test_what_can_never_fit_is_refused(make_core: Callable[..., Core]):
    core = make_core(blocks=10)  # 80 tokens
    assert core.max_model_len == 79
    with pytest.raises(ContextLengthError, match="79 tokens"):
        core.check(greedy(list(range(10, 80)), 10))
    fitting = greedy(list(range(10, 79)), 10)
    core.run([fitting])
    assert fitting.finished
    with pytest.raises(ContextLengthError):
        make_core().check(greedy([5] * 500, 13))


def test_the_whole_cache_serves_one_long_request_after_another(make_core: Callable[..., Core]):
    core = make_core(blocks=10)
    for start in range(5):
        request = greedy([start + 10 + i for i in range(60)], 19)
        core.run([request])
        assert request.sequences[0].generated == 19
        core.scheduler.check_integrity()


def test_too_many_waiting_are_refused(make_core: Callable[..., Core]):
    core = make_core(max_waiting=4)
    core.submit(Request([5, 6], SamplingParams(max_tokens=1), n=4))
    with pytest.raises(OverloadedError):
        core.submit(greedy([5, 6], 1))


def test_prefill_does_not_starve_decoding(make_core: Callable[..., Core]):
    core = make_core(prefill_chunk=16)
    decoding = greedy([5, 6, 7], 30)
    core.submit(decoding)
    core.step()
    core.submit(greedy(list(range(10, 310)), 2))
    before = decoding.sequences[0].generated
    for _ in range(10):
        core.step()
    assert decoding.sequences[0].generated == before + 10


def test_a_turn_goes_on_in_the_block_where_the_last_one_ended(make_core: Callable[..., Core]):
    """Only a sole user may: with two, one of them copies."""
    core = make_core(blocks=1024, block_size=8)
    copies: list[list[int]] = []
    copy = core.model.copy
    core.scheduler._tails._copy = lambda source, target: (copies.append(source), copy(source, target))[0]
    first = greedy(list(range(10, 30)), 7)  # 26 tokens computed: 2 in the last block
    core.run([first])
    history = [*first.sequences[0].tokens, 5, 6]
    core.run([greedy(history, 3)])
    assert not copies
    computed = core.scheduler.counters.computed_tokens
    core.run([greedy([*history, 1], 3), greedy([*history, 2], 3)])
    assert len(copies) >= 1
    assert core.scheduler.counters.computed_tokens - computed <= 2 * 4
    core.scheduler.check_integrity()


def test_siblings_look_for_their_prompt_once_and_copy_at_once(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
):
    """A prompt of 12 blocks and a half, 40 children: they read no more of it than one does, and one copy serves all."""
    core = make_core(blocks=512, block_size=8, max_batch=40)
    looked, copies = [0], []
    copy = core.model.copy
    core.scheduler._tails._copy = lambda source, target: (copies.append(source), copy(source, target))[0]

    class Counted(list[int]):
        def __getitem__(self, index: Any) -> Any:
            looked[0] += len(range(*index.indices(len(self)))) == 8 if isinstance(index, slice) else 0
            return super().__getitem__(index)

    def admitted(n: int) -> int:
        request = greedy(list(range(n, n + 100)), 3, n=n)
        core.submit(request)
        for sequence in request.sequences:
            sequence.tokens = Counted(sequence.tokens)
        looked[0] = 0
        while core.busy:
            core.step()
        return looked[0]

    assert admitted(40) <= admitted(1) + 40
    assert len(copies) == 1
    assert len(copies[0]) == 39 * 4
    core.scheduler.check_integrity()
