"""The engine's thread: failures, shutdown, and a busy loop that stays responsive."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import torch

from engine.core import Core
from engine.errors import ServingError, ShutdownError, StepError
from engine.loop import EngineLoop
from engine.schedule.sequence import Output, Request, SamplingParams
from engine.server.api import create_app
from tests.engine.server.serving import serve
from tests.patience import PATIENCE, eventually, soon


async def ask(loop: EngineLoop, request: Request) -> list[Output]:
    """Outputs of a request to its end."""
    queue: asyncio.Queue[Output] = asyncio.Queue()
    request.notify = queue.put_nowait
    loop.submit(request)
    outputs = []
    while True:
        outputs.append(await queue.get())
        if outputs[-1].error is not None or request.finished:
            return outputs


def some(prompt: list[int], length: int = 5, **more: Any) -> Request:
    return Request(prompt, SamplingParams(max_tokens=length, ignore_eos=True), **more)


class Held:
    """Keeps a core in the middle of its first step until the test lets it go on."""

    def __init__(self, core: Core) -> None:
        self.computing, self.go = threading.Event(), threading.Event()
        forward = core.model.forward

        def held(step: Any) -> torch.Tensor:
            self.computing.set()
            self.go.wait(PATIENCE)
            return forward(step)

        core.model.forward = held  # type: ignore[method-assign]


async def test_a_failing_step_ends_its_requests_and_the_engine_goes_on(make_core: Callable[..., Core]):
    core = make_core()
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())
    forward = core.model.forward

    def broken(step: Any) -> torch.Tensor:
        raise RuntimeError("out of luck")

    core.model.forward = broken  # type: ignore[method-assign]
    (output,) = await ask(loop, some([5, 6, 7], n=3))
    assert isinstance(output.error, StepError)
    assert "out of luck" in str(output.error)
    core.model.forward = forward  # type: ignore[method-assign]
    outputs = await ask(loop, some([5, 6, 7]))
    assert outputs[-1].finish_reason == "length"
    await asyncio.to_thread(loop.stop)
    core.scheduler.check_integrity()
    assert core.stats.failed_steps == 1


async def test_a_fault_of_the_scheduler_is_survived_too(make_core: Callable[..., Core]):
    core = make_core()
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())

    def broken() -> Any:
        raise AssertionError("the books do not balance")

    core.scheduler.schedule = broken  # type: ignore[method-assign]
    outputs = await ask(loop, some([5, 6, 7]))
    assert isinstance(outputs[-1].error, StepError)
    outputs = await ask(loop, some([5, 6, 7]))  # on a new scheduler
    assert outputs[-1].finish_reason == "length"
    await asyncio.to_thread(loop.stop)


async def test_output_that_is_not_a_number_fails_its_request_only(make_core: Callable[..., Core]):
    core = make_core(block_size=4)
    forward = core.model.forward

    def poisoned(step: Any) -> torch.Tensor:
        logits = forward(step)
        poison = (step.tokens == 77).nonzero()[:, 0]
        for row in poison.tolist():
            core.model.cache[..., step.slots[row], :] = torch.nan
        hit = torch.isin(step.sampled, poison)
        return logits.masked_fill(hit[:, None], torch.nan)

    core.model.forward = poisoned  # type: ignore[method-assign]
    bad, good = some([5, 6, 7, 8, 9, 77], 9, n=2), some([5, 6, 7, 8, 9, 10], 9)
    core.submit(bad)
    core.submit(good)
    outputs = []
    while core.busy:
        outputs += core.step()
        core.scheduler.check_integrity()
    assert [type(o.error) for o in outputs if o.request is bad] == [StepError]
    assert [o.finish_reason for o in outputs if o.request is good] == ["length"]
    assert torch.isfinite(core.model.cache).all()


async def test_stopping_fails_what_is_left(make_core: Callable[..., Core]):
    core = make_core()
    held = Held(core)
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())
    asking = [asyncio.create_task(ask(loop, some([5, 6, i], 400))) for i in range(4)]
    await asyncio.to_thread(held.computing.wait, PATIENCE)
    stopping = asyncio.create_task(asyncio.to_thread(loop.stop))
    await eventually(lambda: not loop.alive)
    assert not stopping.done(), "it waits for the step"
    held.go.set()
    await soon(stopping)
    for outputs in await asyncio.gather(*asking):
        assert isinstance(outputs[-1].error, ShutdownError)
    assert not loop.alive
    with pytest.raises(ShutdownError):
        loop.submit(some([5]))
    loop.abort(some([5]))  # no effect


async def test_a_stopped_engine_leaves_its_memory_to_the_collector(make_core: Callable[..., Core]):
    """Modules of models refer to each other in circles."""
    module = torch.nn.Linear(1, 1)
    module.__dict__["circle"] = module
    loop = EngineLoop(make_core(), threads=1)
    loop.start(asyncio.get_running_loop())
    await ask(loop, some([5, 6]))
    await asyncio.to_thread(loop.stop)
    left = weakref.ref(module)
    del module
    gc.collect()
    assert left() is None


async def test_overload_is_told_to_the_one_that_asked(make_core: Callable[..., Core]):
    loop = EngineLoop(make_core(max_waiting=3), threads=1)
    loop.start(asyncio.get_running_loop())
    outputs = await ask(loop, some([5, 6, 7], n=4))
    assert isinstance(outputs[0].error, ServingError)
    assert outputs[0].error.status == 429
    await asyncio.to_thread(loop.stop)


def test_http_answers_while_the_engine_computes(make_core: Callable[..., Core]):
    """In the middle of one step, which lasts until a dozen others were answered; then the outputs come as usual."""
    core = make_core(blocks=2000, max_batch=64)
    held = Held(core)
    body = {"prompt": "x", "n": 32, "max_tokens": 40, "ignore_eos": True, "stream": True}
    app = create_app(EngineLoop(core, threads=1), "tiny")
    with serve(app) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as asking:
        try:
            streamed = asking.submit(httpx.post, f"{url}/v1/completions", json=body)
            assert held.computing.wait(PATIENCE)
            for path in ("/health", "/v1/models", "/metrics") * 4:
                assert client.get(path).status_code == 200
            assert core.stats.steps == 0
            assert not streamed.done()
        finally:
            held.go.set()
        assert streamed.result().text.endswith("data: [DONE]\n\n")
    assert core.scheduler.counters.generated_tokens == 32 * 40


def test_errors_reach_the_client_whole_and_in_streams(make_core: Callable[..., Core]):
    core = make_core()
    forward = core.model.forward
    core.model.forward = lambda step: forward(step) * torch.nan  # type: ignore[method-assign]
    with serve(create_app(EngineLoop(core, threads=1), "tiny")) as url:
        answer = httpx.post(f"{url}/v1/completions", json={"prompt": "x"})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "step_failed"
        streamed = httpx.post(f"{url}/v1/completions", json={"prompt": "x", "stream": True})
        assert "step_failed" in streamed.text
        assert "[DONE]" not in streamed.text
