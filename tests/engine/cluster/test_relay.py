"""The one address over replicas that answer, end and hang as told."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from engine.cluster.relay import Relay
from engine.cluster.routing import load_of, order
from engine.server.body import BodyLimit
from tests.engine.cluster.fakes import EVENT, STREAM, FakeReplica, answer, chunk, cluster
from tests.patience import eventually

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cluster.replicas.CHECK_SECONDS", 0.02)


def client(relay: Relay) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(BodyLimit(relay, 1000)), base_url="http://test")


def owner_first(fakes: dict[str, FakeReplica]) -> list[FakeReplica]:
    prefix = load_of(PATH, json.dumps(CHAT).encode()).prefix
    assert prefix is not None
    return [fakes[name] for name in order(prefix.blocks, list(fakes))]


def events(text: str) -> list[Any]:
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n") if part]


async def test_a_request_and_its_answer_are_passed_on_as_they_are():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        said = await http.post(
            "/v1/x%2Fy/z?a=%20b&c", content=b'{"a": 1}', headers={"authorization": "Bearer k", "x-own": "1"}
        )
        assert said.json() | {"replica": ""} == {
            "replica": "", "line": "POST /v1/x%2Fy/z?a=%20b&c HTTP/1.1", "body": '{"a": 1}',
        }  # fmt: skip
        name = said.headers["x-troop-replica"]
        assert said.json()["replica"] == name
        ((_, headers, _),) = fakes[name].asked
        assert headers["authorization"] == "Bearer k"
        assert headers["x-own"] == "1"
        fakes["0"].script = fakes["1"].script = answer(404, {"error": {"message": "no", "code": None}})
        refused = await http.get("/nowhere")
        assert refused.status_code == 404
        assert refused.json() == {"error": {"message": "no", "code": None}}
        assert sum(relay.served.values()) == 2


async def test_replicas_get_their_own_key_where_clients_need_none():
    async with cluster(key="inner") as (relay, fakes, _), client(relay) as http:
        await http.get("/v1/models", headers={"authorization": "Bearer guessed"})
        asked = [headers["authorization"] for fake in fakes.values() for _, headers, _ in fake.asked]
        assert asked == ["Bearer inner"]


async def test_a_stream_is_passed_on_in_whole_events():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        for fake in fakes.values():
            fake.script = STREAM + chunk(EVENT[:5]) + chunk(EVENT[5:] + EVENT[:3]) + chunk(EVENT[3:]) + chunk(b"data: ")
            fake.script += chunk(b"[DONE]\n\n") + b"0\r\n\r\n"
        said = await http.post(PATH, json=CHAT)
        assert said.content == EVENT + EVENT + b"data: [DONE]\n\n"
        assert said.headers["content-type"].startswith("text/event-stream")
        assert relay.retried == 0


CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
SHUT = {"error": {"message": "the engine is stopping", "type": "service_unavailable", "code": "shutting_down"}}


@pytest.mark.parametrize(
    "script",
    [
        b" ",
        CUT,
        STREAM,
        STREAM + chunk(b'data: {"half'),
        answer(503, SHUT),
        answer(500, {"error": {"code": "engine_failed"}}),
        STREAM + chunk(b"data: " + json.dumps(SHUT).encode() + b"\n\n") + b"0\r\n\r\n",
    ],
    ids=[
        "closed",
        "cut",
        "stream cut before",
        "stream cut in its first event",
        "stopping",
        "failed",
        "stopping stream",
    ],
)
async def test_a_request_whose_replica_is_lost_is_computed_once_more(script: bytes):
    async with cluster() as (relay, fakes, _), client(relay) as http:
        owner, other = owner_first(fakes)
        owner.script = script
        said = await http.post(PATH, json=CHAT)
        assert said.status_code == 200
        assert said.json()["replica"] == other.name
        assert relay.retried == 1
        assert not any(relay.router.rows.values())


async def test_a_stream_that_has_begun_ends_with_an_error_and_is_not_sent_twice():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        owner, other = owner_first(fakes)
        owner.script = STREAM + chunk(EVENT) + chunk(EVENT[:9])
        said = await http.post(PATH, json=CHAT)
        first, last = events(said.text)
        assert first == {"word": "one"}
        assert last["error"]["code"] == "replica_lost"
        assert other.asked == []
        assert relay.retried == 0


async def test_errors_of_a_request_are_no_loss():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        owner, other = owner_first(fakes)
        owner.script = answer(500, {"error": {"message": "the step failed", "code": "step_failed"}})
        assert (await http.post(PATH, json=CHAT)).status_code == 500
        assert other.asked == []


async def test_a_request_that_ends_two_replicas_is_not_tried_on_a_third():
    async with cluster(3) as (relay, fakes, _), client(relay) as http:
        for fake in fakes.values():
            fake.script = b" "
        said = await http.post(PATH, json=CHAT)
        assert said.status_code == 503
        assert said.json()["error"]["message"] == "2 replicas ended while they computed this request"
        assert sum(len(fake.asked) for fake in fakes.values()) == 2


async def test_a_replica_that_died_gets_no_requests_until_it_is_back():
    async with cluster() as (relay, fakes, placement), client(relay) as http:
        owner, other = owner_first(fakes)
        placement.put(owner.name, None)
        await owner.die()
        assert (await http.post(PATH, json=CHAT)).json()["replica"] == other.name
        await eventually(lambda: owner.name not in relay.replicas.up)
        assert (await http.get("/health")).json()["replicas"] == {owner.name: "starting", other.name: "ok"}
        assert placement.restarted == [], "its process is gone: nothing is left to end"
        waiting = placement.urls[owner.name]
        waiting.set_result(await owner.start())
        await eventually(lambda: owner.name in relay.replicas.up)
        assert relay.replicas.starts == {owner.name: 2, other.name: 1}
        assert (await http.get("/health")).json()["status"] == "ok"


async def test_all_are_down():
    async with cluster() as (relay, fakes, placement), client(relay) as http:
        for name, fake in fakes.items():
            placement.put(name, None)
            await fake.die()
        await eventually(lambda: not relay.replicas.up)
        said = await http.post(PATH, json=CHAT)
        assert said.status_code == 503
        assert said.headers["retry-after"] == "5"
        assert said.json()["error"]["message"] == "none of 2 replicas is up; they are being started"
        health = await http.head("/health")
        assert health.status_code == 503
        assert health.content == b""


async def test_a_replica_that_says_that_it_stopped_is_started_again_and_its_requests_go_on():
    async with cluster() as (relay, fakes, placement), client(relay) as http:
        owner, other = owner_first(fakes)
        owner.hangs.set()
        asking = asyncio.create_task(http.post(PATH, json=CHAT))
        await owner.arrived.wait()
        placement.put(owner.name, None)
        owner.healthy = False
        assert (await asking).json()["replica"] == other.name
        await eventually(lambda: placement.restarted == [owner.name])


async def test_who_hangs_up_is_no_longer_computed_for():
    async with cluster() as (relay, fakes, _), client(relay):
        owner = owner_first(fakes)[0]
        owner.hangs.set()
        gone = asyncio.Event()
        asked = [{"type": "http.request", "body": json.dumps(CHAT).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        sent: list[Any] = []
        scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        answering = asyncio.create_task(relay(scope | {"headers": []}, receive, send))
        await owner.arrived.wait()
        assert relay.router.rows[owner.name] == 1
        gone.set()
        await answering
        await owner.hung_up.wait()
        assert sent == []
        assert not any(relay.router.rows.values())


async def test_a_body_that_is_too_large_is_refused():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        assert (await http.post(PATH, content=b"x" * 1001)).status_code == 413

        async def parts() -> Any:
            for _ in range(11):
                yield b"x" * 100

        said = await http.post(PATH, content=parts())
        assert said.status_code == 413
        assert "more than 1000 bytes" in said.json()["error"]["message"]
        assert not any(fake.asked for fake in fakes.values())


METRICS = b"""\
# HELP a_total Sum
# TYPE a_total counter
a_total{reason="stop"} %d
# HELP b_seconds Times
# TYPE b_seconds histogram
b_seconds_bucket{le="1.0"} 2
b_seconds_bucket{le="+Inf"} 3
b_seconds_count 3
b_seconds_sum 4.5
"""


async def test_metrics_have_the_replicas_name():
    async with cluster() as (relay, fakes, _), client(relay) as http:
        for name, fake in fakes.items():
            text = METRICS % (5 + int(name))
            fake.script = (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(text) + text
            )
        said = await http.get("/metrics")
        lines = said.text.splitlines()
        for line in ('a_total{reason="stop",replica="0"} 5.0', 'a_total{reason="stop",replica="1"} 6.0',
                     'b_seconds_bucket{le="1.0",replica="1"} 2.0', 'troop_cluster_up{replica="0"} 1.0'):  # fmt: skip
            assert line in lines
        assert lines.count("# TYPE a_total counter") == 1
        fakes["0"].script = b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"
        half = (await http.get("/metrics")).text
        assert 'a_total{reason="stop",replica="1"} 6.0' in half
        assert 'a_total{reason="stop",replica="0"}' not in half
