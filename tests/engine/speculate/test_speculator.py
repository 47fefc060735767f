"""Speculation changes when tokens come, never which: with right, wrong and mixed drafts, for every course of a
request.
"""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cli import read
from engine.core import Core
from engine.schedule.limits import Limits
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import Output, Request, SamplingParams, Sequence, State
from engine.server.metrics import EngineMetrics
from engine.server.process import build_core
from engine.speculate.speculator import LONGEST_REST, MOST_LIVE, PATIENCE, Speculator, StepTimes, Trust
from engine.speculate.suffix_tree import Guess
from engine.text.output import ByteDecoder, OutputText
from tests.engine.conftest import VOCABULARY
from tests.engine.run.test_sampling import chi_square_limit, expected
from tests.engine.test_greedy import prompts

Drafts = dict[Sequence, list[int]]


class Oracle:
    """Drafts from known answers: `right` tokens that will be sampled, then `wrong` ones that will not."""

    def __init__(self, answers: dict[tuple[int, int], list[int]], right: int, wrong: int, seed: int | None = None):
        self.answers, self.right, self.wrong = answers, right, wrong
        self.random = None if seed is None else random.Random(seed)

    def __call__(self, decoding: list[Sequence], budget: int) -> Drafts:
        drafts: Drafts = {}
        for sequence in decoding:
            right, wrong = self.right, self.wrong
            if self.random is not None:
                right, wrong = self.random.randint(0, right), self.random.randint(0, wrong)
            coming = self.answers[key(sequence)][sequence.generated :]
            bad = [(token + 1) % VOCABULARY for token in coming[right : right + wrong]]
            drafts[sequence] = [*coming[:right], *bad]
        return drafts


def key(sequence: Sequence) -> tuple[int, int]:
    return hash(tuple(sequence.request.prompt)), sequence.index


def answers(requests: list[Request]) -> dict[tuple[int, int], list[int]]:
    return {key(s): s.tokens[s.prompt_length :] for request in requests for s in request.sequences}


def run(core: Core, requests: list[Request]) -> list[Output]:
    """As `Core.run`, with integrity checked after every step."""
    for request in requests:
        core.check(request)
        core.submit(request)
    outputs = []
    while core.busy:
        outputs += core.step()
        core.scheduler.check_integrity()
        core.speculator.check_integrity()
    return outputs


def again(requests: list[Request]) -> list[Request]:
    return [Request(list(r.prompt), r.params, r.n, r.stream) for r in requests]


def told(outputs: list[Output], requests: list[Request]) -> list[Any]:
    """What clients receive of each child: text, tokens with rounded log-probabilities, and the finish reason."""
    found = []
    for request in requests:
        for index in range(request.n):
            mine = [o for o in outputs if o.request is request and o.index == index]
            entries = [entry for output in mine for entry in output.logprobs]
            numbers = [(e.token, round(e.logprob, 3), [token for token, _ in e.top]) for e in entries]
            found.append(("".join(o.text for o in mine), numbers, mine[-1].finish_reason))
    return found


DRAFTERS = {"right": (5, 0, None), "wrong": (0, 4, None), "mixed": (6, 3, 1)}
# With these seeds no draw is so close to another token that rounding decides: what else is in a batch changes the last
# bits of its logits, with drafts and without.
HOW = {
    "greedy": SamplingParams(temperature=0.0, max_tokens=13, ignore_eos=True),
    "hot": SamplingParams(temperature=0.7, seed=0, max_tokens=13, ignore_eos=True),
    "filtered": SamplingParams(temperature=1.1, top_p=0.8, top_k=20, min_p=0.01, seed=70, max_tokens=13),
}


@pytest.mark.parametrize("cost", [0, 10**9], ids=["shared", "not-shared"])
@pytest.mark.parametrize("count", [1, 7, 64])
@pytest.mark.parametrize("how", HOW)
def test_tokens_are_the_same_with_any_draft(make_core: Callable[..., Core], how: str, count: int, cost: int) -> None:
    wanted = [Request(prompt, HOW[how]) for prompt in prompts(count, 40, 30, seed=count)]
    run(make_core(blocks=1200, cost=cost), wanted)
    known = answers(wanted)
    for right, wrong, seed in DRAFTERS.values():
        core = make_core(blocks=1200, cost=cost, max_draft=8, prefill_chunk=24)  # prompts come in chunks meanwhile
        core.scheduler._drafts._drafter = Oracle(known, right, wrong, seed)
        found = again(wanted)
        run(core, found)
        assert answers(found) == known
        counters = core.scheduler.counters
        assert counters.drafted_tokens > 0
        if not wrong:
            assert counters.accepted_tokens == counters.drafted_tokens
        if not right:
            assert counters.accepted_tokens == 0


@pytest.mark.parametrize("block_size", [1, 5, 16])
@pytest.mark.parametrize("stream", [False, True])
def test_stops_log_probabilities_and_streams_are_the_same(
    make_core: Callable[..., Core], block_size: int, stream: bool
) -> None:
    base = SamplingParams(temperature=0.8, seed=3, max_tokens=30, ignore_eos=True, logprobs=2)
    plain = [Request(prompts(1, 30, 9)[0], base, n=3)]
    outputs = run(make_core(block_size=block_size), plain)
    text = told(outputs, plain)[0][0]
    tokens = plain[0].sequences[0].tokens[plain[0].sequences[0].prompt_length :]
    variants = [
        base,
        replace(base, stop=(text[7:9],)),
        replace(base, stop=("never said", text[12:17]), logprobs=None),
        replace(base, stop_token_ids=frozenset({tokens[11]})),
    ]
    for params in variants:
        wanted = [Request(plain[0].prompt, params, n=3, stream=stream)]
        before = told(run(make_core(block_size=block_size), wanted), wanted)
        known = answers(plain)
        for right, wrong, seed in ((10, 0, None), (7, 3, 1)):
            core = make_core(block_size=block_size, max_draft=16)
            core.scheduler._drafts._drafter = Oracle(known, right, wrong, seed)
            found = again(wanted)
            assert told(run(core, found), found) == before
            assert answers(found) == answers(wanted)
            assert core.scheduler.counters.finished == {
                reason: sum(s.finish_reason == reason for s in wanted[0].sequences)
                for reason in {s.finish_reason for s in wanted[0].sequences}
            }
    assert wanted[0].sequences[0].finish_reason == "stop"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_without_rounding_by_batch_log_probabilities_are_the_same_bits(
    make_core: Callable[..., Core], dtype: torch.dtype
) -> None:
    params = SamplingParams(temperature=0.9, top_p=0.9, seed=8, max_tokens=16, ignore_eos=True, logprobs=3)
    wanted = [Request(prompt, params, n=2) for prompt in prompts(3, 20, 9)]
    before = run(make_core(batch_invariant=True, dtype=dtype), wanted)
    core = make_core(batch_invariant=True, dtype=dtype, max_draft=8)
    core.scheduler._drafts._drafter = Oracle(answers(wanted), 5, 3, seed=2)
    found = again(wanted)
    after = run(core, found)
    assert core.scheduler.counters.accepted_tokens > 0
    for one, other in zip(wanted, found, strict=True):
        for index in range(2):
            bits = [
                [o.logprobs for o in outputs if o.request is request and o.index == index]
                for outputs, request in ((before, one), (after, other))
            ]
            assert bits[0] == bits[1] != [()]


def test_what_an_accepted_run_left_behind_is_sound_for_the_next_turn(make_core: Callable[..., Core]) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    history = prompts(1, 30, 9)[0]
    for turn in range(3):
        wanted = [Request(history, params)]
        plain = make_core()
        run(plain, wanted)
        if not turn:
            core = make_core(max_draft=8)
        core.scheduler._drafts._drafter = Oracle(answers(wanted), 7, 2, seed=turn)
        computed = core.scheduler.counters.computed_tokens
        found = [Request(history, params)]
        run(core, found)
        assert answers(found) == answers(wanted)
        if turn:  # all but the last token of the answer was cached, and the words after it are new
            assert core.scheduler.counters.computed_tokens - computed == 1 + 3
        history = [*found[0].sequences[0].tokens, 5, 6, 7]


def test_preemption_with_drafts(make_core: Callable[..., Core]) -> None:
    params = SamplingParams(temperature=0.9, seed=4, max_tokens=40, ignore_eos=True)
    wanted = [Request(prompt, params) for prompt in prompts(8, 16, 20, seed=5)]
    run(make_core(blocks=300), wanted)
    core = make_core(blocks=24, max_draft=12)
    core.scheduler._typical_output = 0.0  # admit as if answers were short
    core.scheduler._drafts._drafter = Oracle(answers(wanted), 12, 12, seed=6)
    found = again(wanted)
    run(core, found)
    assert answers(found) == answers(wanted)
    counters = core.scheduler.counters
    assert counters.preemptions > 0
    assert 0 < counters.accepted_tokens < counters.drafted_tokens


def test_joint_distribution_with_drafts_is_the_model_s(make_core: Callable[..., Core], weights: Any) -> None:
    """Three tokens in a row, the last two of them drafted: 27 outcomes by `transformers`' logits and filters."""
    params = SamplingParams(temperature=1.5, top_k=3, max_tokens=3, ignore_eos=True)
    prompt = list(range(20, 40))
    chances: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        longer = {}
        for said, chance in chances.items():
            with torch.inference_mode():
                logits = weights(torch.tensor([prompt + list(said)])).logits[0, -1].float()
            for token, share in enumerate(expected(logits, params).tolist()):
                if share:
                    longer[(*said, token)] = chance * share
        chances = longer
    assert len(chances) == 27

    def draft(decoding: list[Sequence], budget: int) -> Drafts:
        """The likeliest path: often right, often not."""
        drafts = {}
        for sequence in decoding:
            said = tuple(sequence.tokens[len(prompt) :])
            drafts[sequence] = list(
                max((path for path in chances if path[: len(said)] == said), key=chances.__getitem__)
            )
            del drafts[sequence][: len(said)]
        return drafts

    core = make_core(blocks=4000, max_draft=4, max_batch=2000, prefill_chunk=2000)
    core.scheduler._drafts._drafter = draft
    core.steady._least = sys.maxsize  # so many rows would not be drafted for
    draws = 2400
    counts = dict.fromkeys(chances, 0)
    for first in range(0, draws, 600):
        request = Request(prompt, replace(params, seed=first), n=600)
        core.run([request])
        for sequence in request.sequences:
            counts[tuple(sequence.tokens[len(prompt) :])] += 1
    wanted = {path: chance * draws for path, chance in chances.items() if chance * draws >= 5}
    statistic = sum((counts[path] - number) ** 2 / number for path, number in wanted.items())
    assert statistic < chi_square_limit(len(wanted) - 1)
    counters = core.scheduler.counters
    assert 0.2 * counters.drafted_tokens < counters.accepted_tokens < 0.9 * counters.drafted_tokens


def test_a_draft_whose_numbers_are_not_finite_ends_no_request(make_core: Callable[..., Core]) -> None:
    """The draft is dropped, and the sequence continues without drafts."""
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    wanted = [Request(prompt, params) for prompt in prompts(3, 20, 5)]
    run(make_core(), wanted)
    poison = next(t for t in range(4, VOCABULARY) if all(t not in s.tokens for r in wanted for s in r.sequences))
    core = make_core(max_draft=4)
    known, forward = answers(wanted), core.model.forward

    def poisoned(step: Any) -> torch.Tensor:
        logits = forward(step)
        rows = (step.tokens == poison).nonzero()[:, 0]
        core.model.cache[..., step.slots[rows], :] = torch.nan
        return logits.masked_fill(torch.isin(step.sampled, rows)[:, None], torch.nan)

    core.model.forward = poisoned  # type: ignore[method-assign]
    core.scheduler._drafts._drafter = lambda decoding, budget: {
        s: [*known[key(s)][s.generated : s.generated + 2], poison] for s in decoding if s.request is found[1]
    }
    found = again(wanted)
    outputs = run(core, found)
    assert all(output.error is None for output in outputs)
    assert answers(found) == known
    assert [request.sequences[0].draftable for request in found] == [True, False, True]
    assert torch.isfinite(core.model.cache).all()


def test_no_block_is_lent_that_somebody_may_need(make_core: Callable[..., Core]) -> None:
    """Blocks under a lease are not evicted for a draft: it ends with the last block of its sequence."""
    params = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    wanted = [Request(list(range(10, 31)), params)]  # 21 tokens of 8 blocks of 8
    run(make_core(), wanted)
    core = make_core(blocks=8, max_draft=32)
    core.run([Request(list(range(100, 134)), replace(params, max_tokens=5))])  # leaves 5 blocks under a lease
    core.scheduler._drafts._drafter = Oracle(answers(wanted), 32, 0)
    found = again(wanted)
    core.submit(found[0])
    core.step()
    core.step()  # 21 + 1 tokens: two fit behind them
    assert core.scheduler.counters.drafted_tokens == 2
    run(core, [])
    assert answers(found) == answers(wanted)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(6, 40), st.integers(1, 6))
def test_scheduler_under_random_load_with_random_drafts(seed: int, blocks: int, size: int) -> None:
    """Aborts while a step with drafts is computed, memory short, runs accepted in part: nothing is lost."""
    rng = random.Random(seed)

    def drafter(decoding: list[Sequence], budget: int) -> Drafts:
        return {s: [rng.randint(0, 9) for _ in range(rng.randint(0, 12))] for s in decoding if rng.random() < 0.7}

    limits = Limits(size, rng.randint(1, 8), rng.randint(1, 30), lease_seconds=5.0, max_draft=rng.randint(1, 12))
    now = [0.0]
    scheduler = Scheduler(blocks, limits, lambda source, target: None, clock=lambda: now[0], drafter=drafter)
    live: list[Request] = []
    arrivals = 0
    for turn in range(20_000):
        now[0] += 0.1
        if turn < 60 and rng.random() < 0.25:
            length = rng.randint(1, max(1, scheduler.longest // 2))
            prompt = [rng.randint(0, 1) for _ in range(length)]
            most = min(scheduler.longest - length, 30)
            if most >= 1:
                request = Request(prompt, SamplingParams(max_tokens=rng.randint(1, most)), n=rng.randint(1, 3))
                for index in range(request.n):
                    text = OutputText(ByteDecoder([]))
                    request.sequences.append(Sequence(request, index, list(prompt), arrivals, text))
                    arrivals += 1
                scheduler.submit(request)
                live.append(request)
        elif turn >= 60 and not scheduler.waiting and not len(scheduler.running):
            break
        plan = scheduler.schedule()
        scheduler.check_integrity()
        rows = 0
        for sequence, new, draft in plan.chunks:
            rows += 1 + len(draft)
            assert len(draft) <= min(limits.max_draft, sequence.remaining - 1) or not draft
            assert sequence.computed + new + len(draft) <= len(sequence.table) * size
        assert rows <= limits.max_batch
        if live and turn < 60 and rng.random() < 0.1:
            for sequence in rng.choice(live).sequences:
                scheduler.finish(sequence, "abort")
                scheduler.check_integrity()
        sampling = [chunk for chunk in plan.chunks if chunk.samples and chunk.sequence.state is State.RUNNING]
        scheduler.advance(plan.chunks)
        scheduler.check_integrity()
        for sequence, _, draft in sampling:
            for offset in range(1 + len(draft)):
                hit = offset < len(draft) and rng.random() < 0.6
                sequence.tokens.append(draft[offset] if hit else rng.randint(10, 19))
                if sequence.remaining <= 0 or rng.random() < 0.05:
                    scheduler.finish(sequence, "stop" if sequence.remaining else "length")
                    break
                if not hit:
                    break
                scheduler.accept(sequence)
            scheduler.check_integrity()
    assert all(sequence.state is State.FINISHED for request in live for sequence in request.sequences)
    assert scheduler.allocator.free + scheduler.unused_cached_blocks() == blocks
    assert scheduler.counters.accepted_tokens <= scheduler.counters.drafted_tokens


# -- drafts from the suffix tree ---------------------------------------------------------------------------------------


def cheap_rows(core: Core) -> Core:
    """As if a step took the same time at any number of rows, so that every likely draft pays."""
    core.speculator.times.slope = 0.001
    core.speculator.note = lambda step, seconds: None  # type: ignore[method-assign]
    return core


@pytest.mark.parametrize("temperature", [0.0, 0.4])
@pytest.mark.parametrize("count", [1, 7])
def test_siblings_draft_for_one_another(make_core: Callable[..., Core], temperature: float, count: int) -> None:
    params = SamplingParams(temperature=temperature, seed=1, max_tokens=40, ignore_eos=True)
    wanted = [Request(prompts(1, 40, 9)[0], params, n=count)]
    run(make_core(), wanted)
    core = cheap_rows(make_core(max_draft=16))
    for _ in range(2):  # the second finds the tree of the first
        drafted, steps = core.scheduler.counters.drafted_tokens, core.stats.steps
        found = again(wanted)
        run(core, found)
        assert answers(found) == answers(wanted)
    assert core.scheduler.counters.drafted_tokens > drafted
    assert core.stats.steps - steps <= 20, "the second time, everything had been said before"
    assert len(core.speculator._groves) == 1


def test_requests_that_come_and_are_aborted_while_memory_is_short(make_core: Callable[..., Core]) -> None:
    """The whole engine with drafts of its own: requests that are not aborted get the same text as alone."""
    rng = random.Random(3)
    texts = prompts(12, 24, 9, seed=8)
    params = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
    wanted = [Request(text, params) for text in texts]
    run(make_core(blocks=400), wanted)
    core = cheap_rows(make_core(blocks=26, max_draft=12))
    core.scheduler._typical_output = 0.0  # admit as if answers were short
    came: list[Request] = []
    while len(came) < 40 or core.busy:
        if len(came) < 40 and rng.random() < 0.5:
            came.append(Request(rng.choice(texts), params, n=rng.randint(1, 2)))
            core.submit(came[-1])
        if came and rng.random() < 0.08:
            core.abort(rng.choice(came))
        core.step()
        core.scheduler.check_integrity()
        core.speculator.check_integrity()
    known = {tuple(request.prompt): request.sequences[0].tokens for request in wanted}
    reasons = [sequence.finish_reason for request in came for sequence in request.sequences]
    assert set(reasons) == {"length", "abort"}
    assert reasons.count("length") > 20
    for request in came:
        for sequence in request.sequences:
            assert sequence.tokens == known[tuple(request.prompt)][: len(sequence.tokens)]
    assert core.scheduler.counters.accepted_tokens > 100
    assert core.scheduler.counters.preemptions > 0
    assert core.scheduler.allocator.free + core.scheduler.unused_cached_blocks() == 26


def test_speculation_that_is_off_drafts_nothing(make_core: Callable[..., Core]) -> None:
    core = cheap_rows(make_core())
    run(core, [Request([5, 6, 7] * 9, SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True), n=2)])
    assert core.scheduler.counters.drafted_tokens == 0
    assert core.speculator.tokens == 0


def sequence(prompt: list[int], said: list[int], arrival: int = 0, most: int = 100) -> Sequence:
    request = Request(prompt, SamplingParams(max_tokens=most))
    made = Sequence(request, 0, [*prompt, *said], arrival, OutputText(ByteDecoder([])))
    request.sequences.append(made)
    return made


def speculator(slope: float = 0.001, **more: Any) -> Speculator:
    return Speculator(16, 4, slope, **more)


def test_a_draft_copies_what_the_prompt_says() -> None:
    prompt = [1, 2, *range(10, 40), 3]
    drafts = speculator().draft([one := sequence(prompt, [11, 12, 13])], 100)
    assert drafts[one] == list(range(14, 14 + len(drafts[one])))
    assert len(drafts[one]) > 4
    assert speculator().draft([sequence(prompt, [11, 12, 13], most=4)], 100) == {}, "the last token needs no draft"
    assert len(speculator().draft([one], 3)[one]) == 3


def test_dear_rows_are_not_spent_on_guesses_and_large_batches_on_none() -> None:
    prompt = [1, 2, *range(10, 40), 3]
    assert speculator(slope=50.0).draft([sequence(prompt, [11, 12, 13])], 100) == {}
    few = [sequence(prompt, [11, 12, 13]) for _ in range(MOST_LIVE)]
    assert len(speculator().draft(few, 500)) == len(few)
    assert speculator().draft([*few, sequence(prompt, [11])], 500) == {}


def test_the_likeliest_drafts_of_all_sequences_come_first() -> None:
    """A long copy is worth more rows than a short coincidence."""
    sure = sequence(list(range(10, 40)), list(range(10, 30)))
    vague = sequence([1, 2, 3, 1, 4, 5, 1, 6, 7], [1])
    drafts = speculator(slope=0.2).draft([sure, vague], 100)
    assert list(drafts) == [sure]


def test_prompts_with_a_long_prefix_in_common_share_a_tree_others_do_not() -> None:
    shared = list(range(10, 50))
    one, two, other = (sequence(p, [60, 61]) for p in ([*shared, 1, 2], [*shared, 3, 4, 5], [7, 8, 9, 60]))
    maker = speculator()
    maker.draft([one], 100)
    assert maker.tokens == 44
    maker.draft([two, other], 100)
    maker.check_integrity()
    assert len(maker._groves) == 2
    assert maker.tokens == 44 + (3 + 2) + 6
    one.tokens += [70, 71, 72, 73]
    maker.draft([one], 100)
    two.tokens += [70, 71]
    assert maker.draft([two], 100)[two][:2] == [72, 73]


def test_trees_go_when_nobody_used_them_for_long_or_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    maker = speculator(keep=60.0, clock=lambda: now[0])
    first, second = sequence(list(range(50)), [1, 2]), sequence(list(range(100, 150)), [101])
    maker.draft([first], 100)
    now[0] = 50.0
    maker.draft([second], 100)
    now[0] = 70.0
    maker.draft([second], 100)
    maker.check_integrity()
    assert maker.tokens == 51
    assert maker.draft([first], 100) == {}, "it reads a tree that is gone"
    monkeypatch.setattr("engine.speculate.speculator.TOKENS", 60)
    maker.draft([third := sequence(list(range(200, 250)), [201, 202])], 100)
    maker.draft([third], 100)
    maker.check_integrity()
    assert maker.tokens == 52
    assert third in maker.draft([third], 100), "the last tree stays"


def test_a_long_prompt_is_read_over_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.speculate.speculator.FEED", 10)
    maker = speculator()
    one = sequence(list(range(100)), [5, 6, 7])
    for step in range(8):
        assert maker.draft([one], 100) == {}
        assert maker.tokens == 12 * (step + 1)
    for _ in range(2):
        drafts = maker.draft([one], 100)
        maker.check_integrity()
    assert drafts[one][0] == 8


def test_guessing_rests_where_it_is_in_vain_and_wakes_for_newcomers() -> None:
    maker = speculator(slope=1.0)
    calls: list[int] = []
    maker._catch_up = lambda *args: calls.append(1) or 0  # type: ignore[method-assign, func-returns-value]
    one = sequence(list(range(100)), [5, 6, 7])
    for _ in range(PATIENCE):
        maker.draft([one], 100)
    assert len(calls) == PATIENCE
    for _ in range(PATIENCE):
        maker.draft([one], 100)
    assert len(calls) == PATIENCE
    maker.draft([one], 100)
    assert len(calls) == PATIENCE + 1
    for _ in range(20 * LONGEST_REST):
        maker.draft([one], 100)
    assert len(calls) < 6 * LONGEST_REST
    maker._rest = 50
    before = len(calls)
    maker.draft([one, sequence(list(range(100)), [5], arrival=1)], 100)
    assert len(calls) == before + 2


def test_trust_follows_what_guesses_were_worth() -> None:
    trust, guess = Trust(), Guess(5, 10, 1, 1)
    cell = trust.cell(guess)
    before = trust.chance(guess, cell)
    assert 0.5 < before < 1
    for _ in range(500):
        trust.learn(cell, False)
    assert trust.chance(guess, cell) < 0.05
    for _ in range(500):
        trust.learn(cell, True)
    assert trust.chance(guess, cell) > 0.8
    shorter = Guess(5, 2, 1, 1)
    assert trust.chance(shorter, trust.cell(shorter)) < before
    assert trust.cell(Guess(5, 10, 9, 9)) != cell != trust.cell(Guess(5, 10, 1, 3))


def test_step_times_without_drafts_are_measured_or_taken_from_the_nearest() -> None:
    times = StepTimes(0.1)
    assert times.plain(10) == pytest.approx(2.0), "in units of a step without rows"
    times.note(10, False, 3.0)
    assert times.plain(10) == pytest.approx(3.0)
    assert times.plain(20) == pytest.approx(4.5)
    times.note(10, False, 300.0)
    assert times.plain(10) == pytest.approx(3.6), "a pause counts as twice a step at most"
    for _ in range(50):
        times.note(12, True, 1.0)
    assert times.plain(10) == pytest.approx(1.8), "what is more than with drafts is out of date"


def test_step_times_with_drafts_are_a_line_through_what_was_measured() -> None:
    times = StepTimes(0.1)
    times.note(4, False, 1.4)
    first, more = times.line(4)
    assert (first, more) == (pytest.approx(1.0), pytest.approx(0.1)), "nothing is known but the slope"
    for _ in range(100):
        for rows in (6, 9, 20):
            times.note(rows, True, 2.0 + 0.5 * rows)
    first, more = times.line(4)
    assert first == pytest.approx(2.0, abs=0.3)
    assert more == pytest.approx(0.5, rel=0.1)
    times.note(9, True, 1000.0)
    assert times.line(4)[0] + 9 * times.line(4)[1] < 8.0, "a pause counts as twice a step at most"
    for _ in range(300):
        times.note(9, True, 1.0)
        times.note(10, True, 0.5)
    assert times.line(4)[1] >= 0
    times.forget_drafted()
    assert times.line(4) == (pytest.approx(1.0), pytest.approx(0.1))


# -- the operator's side ----------------------------------------------------------------------------------------------


def test_settings_and_metrics(model_folder: Any, make_core: Callable[..., Core]) -> None:
    assert read([]).speculation == "auto"
    arguments = ["--model", str(model_folder), "--cache-tokens", "1000", "--max-draft", "7"]
    assert build_core(read(arguments)).limits.max_draft == 7
    assert build_core(read([*arguments, "--speculation", "off"])).limits.max_draft == 0
    core = cheap_rows(make_core(max_draft=16))
    metrics = EngineMetrics(core)
    run(core, [Request([5, 6, 7] * 9, SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True))])
    text = metrics.render().decode()
    counters = core.scheduler.counters
    assert f"troop_engine_tokens_drafted_total {float(counters.drafted_tokens)}" in text
    assert f"troop_engine_tokens_accepted_total {float(counters.accepted_tokens)}" in text
    assert counters.generated_tokens == 60
