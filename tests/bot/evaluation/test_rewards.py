"""A reward model's scores: read from an endpoint over HTTP, once for each task."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from bot.errors import EndpointError
from bot.evaluation import rewards
from bot.evaluation.rewards import RewardModel, score, with_rewards
from bot.evaluation.samples import Sample
from bot.evaluation.selectors import METHODS, read_matrices
from bot.evaluation.tasks import FunctionTask
from bot.journal import MemoryJournal
from tests.bot.evaluation.test_selectors import row

TASK = FunctionTask(id="t", prompt="def f(x):\n", entry_point="f", check="")
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@contextlib.contextmanager
def endpoint(answer: Answer) -> Iterator[tuple[RewardModel, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"path": self.path, "key": self.headers["Authorization"]})
            status, said = answer(body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield RewardModel(url=url, name="judge", key=SecretStr("k")), asked
        finally:
            server.shutdown()
            thread.join()


def by_length(body: dict[str, Any]) -> tuple[int, Any]:
    """Best first, as such endpoints answer."""
    found = [{"index": i, "relevance_score": len(text)} for i, text in enumerate(body["documents"])]
    return 200, {"results": found[::-1]}


async def test_each_candidate_has_its_score_and_is_asked_about_once() -> None:
    samples = [
        Sample(task="t", sample=i, solves=False, text=f"```python\n{code}\n```") for i, code in enumerate("abba")
    ]
    samples[1] = samples[1].model_copy(update={"text": "```python\nlonger\n```"})
    journal = MemoryJournal()
    with endpoint(by_length) as (reward, asked):
        for _ in range(2):
            line = await with_rewards(TASK, json.dumps({"task": "t"}), samples, reward, journal)
    assert json.loads(line) == {"task": "t", "rewards": [1.0, 6.0, 1.0]}
    (body,) = asked
    assert (body["path"], body["key"], body["model"]) == ("/v1/rerank", "Bearer k", "judge")
    assert body["documents"] == ["a", "longer", "b"]
    assert "def f(x):" in body["query"]


def test_the_highest_reward_is_chosen() -> None:
    (found,) = read_matrices([json.dumps(row(rewards=[2.0, -1.0, 0.5]))])
    assert METHODS["reward model"](found.matrix) == 1.0
    part, which = found.part(found.candidate[1:], found.test)
    assert part.rewards is not None
    assert part.rewards.tolist() == [-1.0, 0.5]
    assert which.tolist() == [1, 2]


@pytest.mark.parametrize(
    "said",
    [
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 0, "relevance_score": 2.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": float("nan")}]},
        {"results": [{"index": 0, "score": 1.0}, {"index": 1}]},
        {"data": []},
        [],
        None,
    ],
)
async def test_what_is_not_a_score_for_each_is_refused(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "_RETRIES", (0.0,))
    with endpoint(lambda body: (200, said)) as (reward, asked):
        with pytest.raises(EndpointError, match="gives no scores"):
            await score(reward, "q", ["a", "b"])
        assert len(asked) == 2


async def test_an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rewards, "_RETRIES", (0.0,))
    busy = iter([(503, {})])
    with endpoint(lambda body: next(busy, by_length(body))) as (reward, _):
        assert await score(reward, "q", ["a", "bb"]) == (1.0, 2.0)
    with endpoint(lambda body: (404, {})) as (reward, asked):
        with pytest.raises(EndpointError, match=r"404.*--reward takes"):
            await score(reward, "q", ["a"])
        assert len(asked) == 1
