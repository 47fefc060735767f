"""Two replicas in a Ray cluster of this machine, against one engine: the same text, the same sharing, a death."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from engine.loop import EngineLoop
from engine.server.api import create_app
from engine.server.process import build_core
from engine.settings import Settings
from tests.engine.server.serving import serve
from tests.patience import PATIENCE, until

CACHE = "4000"
LONG = 300  # tokens
RULES = "the quick brown fox jumps over the lazy dog. assert add(1, 2) == 3 " * 2
# Of six conversations each replica owns some, as the first assertion about them says.
QUESTIONS = [f"{number}: def add(a, b): return {number}" for number in range(6)]


def chat(question: str, *more: dict[str, str], **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": question}, *more]
    return {"messages": messages, "max_tokens": 8, "temperature": 0, "ignore_eos": True} | fields


def ask(http: httpx.Client, question: str, *more: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/chat/completions", json=chat(question, *more, **fields))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text(answer: dict[str, Any]) -> str:
    found: str = answer["choices"][0]["message"]["content"]
    return found


def conversations(http: httpx.Client) -> list[dict[str, Any]]:
    """The answers to each question, asked by three siblings, and to a second turn."""
    answers: list[dict[str, Any]] = []
    for question in QUESTIONS:
        answers += [ask(http, question) for _ in range(3)]
        said = {"role": "assistant", "content": text(answers[-1])}
        answers.append(ask(http, question, said, {"role": "user", "content": "and then?"}))
    return answers


def cached(answers: list[dict[str, Any]]) -> int:
    return sum(one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in answers)


@contextmanager
def replicas(model: Path, folder: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`troop engine --replicas 2` with all its files in `folder`; its process and URL."""
    command = [sys.executable, "-m", "engine", "--model", str(model), "--served-model-name", "m", "--port", "0"]
    command += ["--replicas", "2", "--device", "cpu", "--threads", "1", "--cache-tokens", CACHE, "--follow-stdin"]
    env = os.environ | {"TMPDIR": folder, "HOME": folder}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, **pipes) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("troop engine ready on http://127.0.0.1:"), line
            yield process, line.split()[-1]
        finally:
            if process.poll() is None:
                process.terminate()


def engines(process: subprocess.Popen[str]) -> list[psutil.Process]:
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if one.is_running() and one.cmdline()[1:3] == ["-m", "engine"]]


def metric(http: httpx.Client, name: str) -> dict[str, float]:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return {line.split('replica="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def with_a_death(http: httpx.Client, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The answers to long requests to both replicas, one of which is killed while it has some."""
    doomed = engines(process)[0]
    doomed.suspend()  # or it might be done too soon
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        asking = [pool.submit(ask, http, question, max_tokens=LONG) for question in QUESTIONS]
        until(lambda: any(one.done() for one in asking))
        with suppress(psutil.NoSuchProcess):  # on a busy machine Ray may have given it up, and ended it
            doomed.kill()
        return [one.result() for one in asking]


def only_on_loopback(process: subprocess.Popen[str]) -> None:
    for one in psutil.Process(process.pid).children(recursive=True):
        for found in one.net_connections("inet"):
            if found.status == psutil.CONN_LISTEN:
                assert found.laddr.ip.removeprefix("::ffff:") == "127.0.0.1", (one.cmdline(), found)


@pytest.mark.slow
def test_two_replicas_say_and_share_what_one_engine_does_and_outlive_a_death(model_folder: Path):
    core = build_core(Settings(model=str(model_folder), cache_tokens=int(CACHE), device="cpu"))
    with serve(create_app(EngineLoop(core, 1), "m")) as url, httpx.Client(base_url=url, timeout=PATIENCE) as http:
        alone = conversations(http)
        long = [ask(http, question, max_tokens=LONG) for question in QUESTIONS]
    assert cached(alone) > sum(one["usage"]["prompt_tokens"] for one in alone) / 2, "there is something to share"

    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:  # short: Unix sockets lie below
        with replicas(model_folder, folder) as (process, url), httpx.Client(base_url=url, timeout=PATIENCE) as http:
            only_on_loopback(process)
            together = conversations(http)
            assert list(map(text, together)) == list(map(text, alone))
            assert min(metric(http, "troop_cluster_requests_total").values()) >= 4, "both take part"
            assert cached(together) >= 0.9 * cached(alone)
            assert list(map(text, with_a_death(http, process))) == list(map(text, long))
            assert "troop_cluster_retried_total 0.0" not in http.get("/metrics").text
            until(lambda: sum(metric(http, "troop_cluster_starts_total").values()) == 3)
            # No longer than a busy machine answers within the time that it has: see `DRAIN_SECONDS`.
            with http.stream("POST", "/v1/chat/completions", json=chat("x", max_tokens=32, stream=True)) as stream:
                lines = stream.iter_lines()
                next(lines)
                process.terminate()
                assert [line for line in lines if line][-1] == "data: [DONE]"
            assert process.wait(PATIENCE) == 0
        assert [one.name for one in Path(folder).iterdir() if one.name != ".cache"] == []
