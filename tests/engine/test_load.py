"""A thousand requests at once over a cache that is too small for them; some clients hang up."""

import asyncio
import gc
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache import prompt_logits
from engine.core import Core
from engine.errors import ContextLengthError, OverloadedError
from engine.loop import EngineLoop
from engine.schedule.sequence import Output, Request, SamplingParams
from engine.speculate import speculator
from tests.engine.test_greedy import prompts
from tests.patience import soon


@pytest.mark.slow
async def test_a_thousand_requests_over_a_small_cache(make_core: Callable[..., Core]):
    core = make_core(blocks=60, max_batch=24, prefill_chunk=96, max_waiting=4000)
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())
    rng = random.Random(0)
    texts = prompts(40, 48, 60)
    ended = refused = 0

    async def ask(number: int) -> None:
        nonlocal ended, refused
        queue: asyncio.Queue[Output] = asyncio.Queue()
        params = SamplingParams(max_tokens=rng.randint(1, 30), seed=number, ignore_eos=True)
        text = list(rng.choice(texts)) * (5 if number % 50 == 7 else 1)  # some can never fit
        client = f"run {rng.randrange(5)}"
        request = Request(text, params, n=rng.choice([1, 1, 1, 2]), notify=queue.put_nowait, client=client)
        if len(text) + params.max_tokens > core.max_model_len:
            with pytest.raises(ContextLengthError, match=f"maximum context length is {core.max_model_len} tokens"):
                loop.submit(request)
            refused += 1
            return
        loop.submit(request)
        if rng.random() < 0.2:
            await asyncio.sleep(rng.random())
            loop.abort(request)
            return
        missing = request.n
        while missing:
            output = await soon(queue.get())
            assert output.error is None
            missing -= output.finish_reason is not None
        assert all(sequence.generated == params.max_tokens for sequence in request.sequences)
        ended += 1

    await asyncio.gather(*(ask(number) for number in range(1000)))
    await asyncio.to_thread(loop.stop)
    assert ended > 700
    assert refused > 0
    core.scheduler.check_integrity()
    assert not core.busy
    assert core.scheduler.allocator.free + core.scheduler.unused_cached_blocks() == 60
    assert core.stats.failed_steps == 0


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_requests(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    """New prompts, clients, seeds and ends all the time; finished requests leave only bounded caches behind."""
    monkeypatch.setattr(prompt_logits, "LIMIT", 1 << 20)
    monkeypatch.setattr(speculator, "TOKENS", 1 << 13)
    core = make_core(blocks=300, max_batch=64, prefill_chunk=512, max_waiting=300)
    rng = random.Random(1)
    sizes: list[tuple[int, int]] = []  # bytes, objects
    served = refused = aborted = number = 0
    while served + aborted < 10_000:
        live: list[Request] = []
        for _ in range(500):
            number += 1
            prompt = [number % 350 + 4, *(rng.randrange(4, 380) for _ in range(rng.randint(1, 24)))]
            params = SamplingParams(
                max_tokens=rng.randint(1, 4),
                seed=number,
                stop=("e",) if number % 5 == 0 else (),
                logprobs=number % 3 or None,
                prompt_logprobs=1 if number % 11 == 0 else None,
            )
            request = Request(prompt, params, n=1 + number % 2, stream=number % 4 == 0, client=f"run {number // 100}")
            try:
                core.submit(request)
            except OverloadedError:
                refused += 1
                core.step()
            else:
                live.append(request)
        for request in rng.sample(live, len(live) // 10):
            core.abort(request)
        ends = {id(output.request) for output in core.run([]) if output.finish_reason or output.error}
        assert all(request.finished for request in live)
        reasons = [request.sequences[0].finish_reason for request in live]
        aborted += reasons.count("abort")
        served += len(live) - reasons.count("abort")
        assert len(ends) <= len(live)
        core.scheduler.check_integrity()
        del live, request, ends
        gc.collect()
        sizes.append((resident(), len(gc.get_objects())))
    assert refused > 0
    assert core.stats.failed_steps == 0
    assert core.scheduler.allocator.free + core.scheduler.unused_cached_blocks() == 300
    third = len(sizes) // 3  # caches are full by then
    assert sizes[-1][0] - sizes[third][0] < 6 << 20, f"bytes, objects: {sizes}"
    assert sizes[-1][1] < 1.1 * max(objects for _, objects in sizes[:third]), f"bytes, objects: {sizes}"
