"""Fair order between clients: none waits for another's thousand samples, and none starves."""

from collections.abc import Callable

import pytest

from engine.core import Core
from engine.schedule.sequence import Request, SamplingParams, Sequence, State
from engine.schedule.turns import REMEMBERED, Turns
from engine.text.output import ByteDecoder, OutputText


def ask(client: str, prompt: list[int], tokens: int, n: int = 1) -> Request:
    return Request(prompt, SamplingParams(max_tokens=tokens, seed=7, ignore_eos=True), n=n, client=client)


def steps_until(core: Core, request: Request) -> int:
    steps = 0
    while not request.finished:
        for output in core.step():
            assert output.error is None
        steps += 1
        assert steps < 10_000
    return steps


@pytest.mark.parametrize("blocks", [400, 40], ids=["room-for-all", "memory-short"])
def test_a_small_request_beside_a_thousand_samples(make_core: Callable[..., Core], blocks: int):
    core = make_core(blocks=blocks, max_batch=8)
    huge = ask("huge", list(range(10, 60)), 200, n=1000)
    core.submit(huge)
    for _ in range(20):
        core.step()
    assert len(core.scheduler.running) > 1
    small = ask("small", list(range(100, 140)), 12)
    core.submit(small)
    assert steps_until(core, small) <= 1 + 12, "one step for its prompt, one for each further token"
    core.scheduler.check_integrity()
    assert core.scheduler.counters.preemptions >= 1
    core.abort(huge)
    core.scheduler.check_integrity()


def test_what_was_preempted_for_another_goes_on_as_if_nothing_had_happened(make_core: Callable[..., Core]):
    calm = make_core(max_batch=4)
    alone = ask("huge", list(range(10, 60)), 30, n=6)
    calm.run([alone])
    core = make_core(max_batch=4)
    huge = ask("huge", list(range(10, 60)), 30, n=6)
    core.submit(huge)
    for number in range(5):
        for _ in range(4):
            core.step()
        core.submit(ask(f"small {number}", [100 + number] * 20, 3))
    core.run([])
    assert core.scheduler.counters.preemptions > 0
    assert [s.tokens for s in huge.sequences] == [s.tokens for s in alone.sequences]


def test_a_long_prompt_leaves_others_their_part_of_the_chunk(make_core: Callable[..., Core]):
    core = make_core(prefill_chunk=16)
    long = ask("long", [10 + i % 300 for i in range(450)], 2)
    core.submit(long)
    core.step()
    small = ask("small", list(range(100, 124)), 4)
    core.submit(small)
    assert steps_until(core, small) <= 3 + 4, "24 tokens at 8 a step, then the rest of the answer"
    assert long.sequences[0].prefilling


def test_clients_progress_alike_however_much_they_ask_for(make_core: Callable[..., Core]):
    core = make_core(max_batch=9)
    requests = [ask(f"client {i}", [20 + i, *range(50, 80)], 12, n=n) for i, n in enumerate((300, 60, 30))]
    for request in requests:
        core.submit(request)
    for _ in range(100):
        core.step()
    done = [request.completion_tokens for request in requests]
    assert min(done) > 0.9 * max(done)


def test_more_clients_than_rows_are_served_by_least_service(make_core: Callable[..., Core]):
    core = make_core(max_batch=2)
    requests = [ask(f"client {i}", [20 + i, *range(50, 60)], 5, n=20) for i in range(6)]
    for request in requests:
        core.submit(request)
    for _ in range(60):
        core.step()
    done = [request.completion_tokens for request in requests]
    assert min(done) >= 10
    assert max(done) - min(done) <= 15


def test_requests_without_a_client_are_told_apart_by_their_first_blocks(make_core: Callable[..., Core]):
    core = make_core()
    one, same, other = (
        ask("", list(range(10, 60)), 1),
        ask("", [*range(10, 50), 9], 1),
        ask("", list(range(90, 140)), 1),
    )
    core.run([one, same, other])
    assert one.client == same.client != other.client


def waiting(turns: Turns, client: str, arrival: int) -> Sequence:
    sequence = Sequence(ask(client, [1], 1), 0, [1], arrival, OutputText(ByteDecoder([])))
    sequence.request.sequences.append(sequence)
    turns.add(sequence)
    return sequence


def test_who_comes_back_has_not_saved_up_turns():
    turns = Turns()
    stays, leaves = waiting(turns, "stays", 0), waiting(turns, "leaves", 1)
    assert [s.request.client for s in turns.order()] == ["stays", "leaves"], "arrival among equals"
    for sequence in (stays, leaves):
        turns.start(sequence)
        sequence.state = State.RUNNING
    turns.charge(leaves, 5)
    turns.end(leaves)
    turns.charge(stays, 1000)
    back = waiting(turns, "leaves", 2)
    assert turns.client(back).service == 1000, "lifted to the least of those that stayed"
    turns.check_integrity()
    turns.end(back)
    turns.end(stays)
    assert turns.client(waiting(turns, "stays", 3)).service == 0, "all begin anew"


def test_clients_that_are_gone_are_forgotten():
    turns = Turns()
    waiting(turns, "stays", 0)
    for number in range(REMEMBERED + 50):
        turns.end(waiting(turns, f"client {number}", number))
    turns.check_integrity()
    assert turns.clients == 1
    assert len(turns) == 1
