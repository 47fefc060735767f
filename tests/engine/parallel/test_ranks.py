"""If a process of a tensor-parallel engine dies, the engine ends, and all requests fail."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from engine import cli
from engine.core import Core
from engine.errors import RankError
from engine.loop import EngineLoop
from engine.parallel import follower
from engine.parallel.ranks import Ranks, dumps
from engine.schedule.sequence import Request
from engine.server import process
from tests.engine.test_greedy import greedy
from tests.patience import PATIENCE, until


@pytest.mark.slow
def test_a_killed_process_fails_the_requests_and_ends_the_command(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    started: list[Ranks] = []
    submitted: list[Request] = []
    submit = EngineLoop.submit

    def start(*arguments: Any) -> Ranks:
        started.append(Ranks(*arguments))
        return started[0]

    def count(loop: EngineLoop, request: Request) -> None:
        submit(loop, request)
        submitted.append(request)

    monkeypatch.setattr(process, "Ranks", start)
    monkeypatch.setattr(EngineLoop, "submit", count)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["--model", str(model_folder), "--port", str(port), "--device", "cpu", "--tensor-parallel", "2"]
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(cli.main([*command, "--threads", "1"])), daemon=True)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        until(lambda: healthy(client))
        body = {"prompt": "def add", "max_tokens": 20, "ignore_eos": True}
        assert client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 20
        os.kill(started[0].processes[0].pid, signal.SIGSTOP)  # rank 0 waits for it in the middle of a step
        ask = ThreadPoolExecutor(5)
        whole = [ask.submit(client.post, "/v1/completions", json=body | {"seed": seed}) for seed in range(4)]
        streamed = ask.submit(client.post, "/v1/completions", json=body | {"stream": True})
        until(lambda: len(submitted) == 6)
        assert client.get("/health").status_code == 200
        os.kill(started[0].processes[0].pid, signal.SIGKILL)
        for answer in whole:
            error = answer.result().json()["error"]
            assert answer.result().status_code == 500
            assert error["code"] == "engine_failed"
            assert "process 1 of 2 ended with signal SIGKILL" in error["message"]
        assert "engine_failed" in streamed.result().text
        assert "[DONE]" not in streamed.result().text
    thread.join(PATIENCE)
    assert status == [1]
    assert started[0].processes[0].poll() == -signal.SIGKILL
    assert not torch.distributed.is_initialized()


def healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.ConnectError:
        return False


async def test_an_engine_stuck_in_a_step_still_fails_its_requests(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
):
    """On a GPU a sum with a dead process never returns."""
    monkeypatch.setattr("engine.loop.LAST_STEP", 0.05)
    core = make_core()
    computing, over = threading.Event(), threading.Event()

    def stuck(step: Any) -> Any:
        computing.set()
        over.wait(PATIENCE)
        raise RankError("the thread got loose")

    core.model.forward = stuck  # type: ignore[method-assign]
    loop = EngineLoop(core, threads=1)
    loop.start(asyncio.get_running_loop())
    told: asyncio.Queue[Any] = asyncio.Queue()
    request = greedy([5, 6, 7], 5)
    request.notify = told.put_nowait
    loop.submit(request)
    await asyncio.to_thread(computing.wait, PATIENCE)
    await asyncio.to_thread(loop.fail, RankError("process 1 is gone"))
    assert loop.stuck
    assert not loop.alive
    assert str((await told.get()).error) == "process 1 is gone"
    with pytest.raises(RankError, match="is gone"):
        loop.submit(greedy([5], 1))
    await asyncio.to_thread(loop.stop)  # does not wait for ever
    over.set()


class Recorder:
    """A model that records its calls."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.done.append((name, *arguments))


def test_a_follower_does_what_it_is_told_until_the_end(monkeypatch: pytest.MonkeyPatch):
    model = Recorder()
    monkeypatch.setattr(follower.Model, "load", lambda path, split, **options: model.load(path, split) or model)
    ours, theirs = Pipe()
    for message in [
        ("load", "a", {}),
        ("use_attention", "torch"),
        ("allocate", 8),
        ("copy", [1], [2]),
        ("scrub", [3]),
        ("stop",),
    ]:
        ours.send_bytes(dumps(message))
    assert follower.follow(theirs, torch.device("cpu"), 2) == 0
    assert ours.recv() == "loaded"
    assert model.done[:2] == [("load", "a", 2), ("use_attention", "torch")]
    assert model.done[2:] == [("allocate", 8), ("copy", [1], [2]), ("scrub", [3])]
    ours.send_bytes(dumps(("close",)))
    with pytest.raises(ValueError, match="close"):
        follower.follow(theirs, torch.device("cpu"), 2)
    ours.close()
    assert follower.follow(theirs, torch.device("cpu"), 2) == 1, "rank 0 is gone"
    theirs.close()
