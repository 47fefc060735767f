"""A thousand requests at once over a cache that is too small for them, some of which hang up."""

import asyncio
import random
from collections.abc import Callable

import pytest

from engine.core import Core
from engine.loop import EngineLoop
from engine.sequence import Output, Request, SamplingParams
from tests.engine.test_greedy import prompts


@pytest.mark.slow
async def test_a_thousand_requests_over_a_small_cache(make_core: Callable[..., Core]):
    core = make_core(blocks=60, max_batch=24, prefill_chunk=96, max_waiting=4000)
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())
    rng = random.Random(0)
    texts = prompts(40, 48, 60)
    ended = 0

    async def ask(number: int) -> None:
        nonlocal ended
        queue: asyncio.Queue[Output] = asyncio.Queue()
        params = SamplingParams(max_tokens=rng.randint(1, 30), seed=number, ignore_eos=True)
        request = Request(list(rng.choice(texts)), params, n=rng.choice([1, 1, 1, 2]), notify=queue.put_nowait)
        loop.submit(request)
        if rng.random() < 0.2:
            await asyncio.sleep(rng.random())
            loop.abort(request)
            return
        missing = request.n
        while missing:
            output = await asyncio.wait_for(queue.get(), 60)
            assert output.error is None
            missing -= output.finish_reason is not None
        assert all(sequence.generated == params.max_tokens for sequence in request.sequences)
        ended += 1

    await asyncio.gather(*(ask(number) for number in range(1000)))
    await asyncio.to_thread(loop.stop)
    assert ended > 700
    core.scheduler.check_integrity()
    assert not core.busy
    assert core.scheduler.allocator.free + core.scheduler.tree.blocks == 60
    assert core.stats.failed_steps == 0
