"""What changes on a page by itself: the events that a browser listens to."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Response

from bot.lifecycle import RunState
from bot.store import Store
from bot.web.connections import BoundedServer
from bot.web.sessions import Sessions
from tests.bot.web.conftest import ADMIN_TOKEN, Sender
from tests.patience import PATIENCE


@contextlib.asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The pages on a real socket, since events stream; the owner is signed in."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = BoundedServer(app, lifespan="off", timeout_graceful_shutdown=1)
        app.state.site.ending = lambda: server.should_exit
        serving = asyncio.create_task(server.serve([listening]))
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client:
            await client.post("/sign-in/token", data={"admin_token": ADMIN_TOKEN})
            yield client
        server.should_exit = True
        await serving


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name != "beat":
            yield name, line.removeprefix("data: ")


async def test_a_run_tells_its_stage_its_progress_and_its_end(send: Sender, store: Store, pages_app: FastAPI) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    claimed = store.claim_run(run, "worker", PATIENCE)
    assert claimed is not None
    async with (
        asyncio.timeout(PATIENCE),
        served(pages_app) as client,
        client.stream("GET", f"/runs/{run}/events") as it,
    ):
        assert it.headers["content-type"].startswith("text/event-stream")
        events = _events(it)
        name, data = await anext(events)
        head, live = json.loads(data)
        assert name == "fragments"
        assert head.startswith('<div id="head" data-live>')
        assert "waiting for a worker" in live
        for state in (RunState.CHECKOUT, RunState.CONTEXT, RunState.TRAJECTORIES):
            store.advance(run, 1, state)
        store.put_step(run, 1, "model/trajectory/2/test/1/abc", "{}")
        store.put_step(run, 1, "model/trajectory/0/test/1/abc", "{}")
        store.put_step(run, 1, "model/trajectory/0/edit/1/abc", "{}")
        store.spend(run, 1, 0.42)
        store.renew(run, 1, PATIENCE, "sampling fixes (1 of 4), 1 with an edit")
        while '<progress value="1" max="4"' not in live:
            name, data = await anext(events)
            head, live = json.loads(data)
        assert live.count("<li class=") == 7 + 4
        assert "<dt>Cost so far</dt><dd>0.42 USD</dd>" in head
        assert '<li class="edit"><a href="/runs/1/trajectories/0">Trajectory 1</a><small>writing a fix, 2 calls' in live
        assert '<li class="waits">Trajectory 2<small>waiting' in live
        assert (
            '<li class="test"><a href="/runs/1/trajectories/2">Trajectory 3</a><small>writing a test, 1 call<' in live
        )
        store.finish(run, 1, RunState.FAILED, reason="broken")
        rest = [event async for event in events]
        assert [name for name, _ in rest][-2:] == ["changed", "end"]
        assert pages_app.state.site.ending() is False


async def test_a_list_tells_of_new_runs(send: Sender, store: Store, pages_app: FastAPI) -> None:
    url = f"/events?seen={store.mark()}"
    async with asyncio.timeout(PATIENCE), served(pages_app) as client, client.stream("GET", url) as it:
        await send.taken("issues.labeled")
        assert await anext(_events(it)) == ("changed", "")


async def test_connections_are_bounded_and_end_with_the_server(
    send: Sender, pages_app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.web.live.MOST_OF_ONE", 2)
    await send.taken("issues.labeled")
    async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(served(pages_app))
        streams = [await stack.enter_async_context(client.stream("GET", "/events")) for _ in range(3)]
        assert [one.status_code for one in streams] == [200, 200, 503]
        await streams[0].aclose()

        async def taken() -> bool:
            again = await stack.enter_async_context(client.stream("GET", "/events"))
            return again.status_code == 200

        for _ in range(100_000):  # bounded by the time-out
            if await taken():
                break
            await asyncio.sleep(0.05)
        pages_app.state.site.ending = lambda: True
        assert [event async for event in _events(streams[1])] in ([], [("changed", "")])


@pytest.mark.parametrize("path", ["/events", "/runs/1/events", "/runs/1/trajectories/0/events"])
async def test_a_stranger_hears_nothing(send: Sender, stranger: httpx.AsyncClient, path: str) -> None:
    await send.taken("issues.labeled")
    assert (await stranger.get(path, headers={"Accept": "text/event-stream"})).status_code == 401


async def test_a_session_that_ends_hears_no_more(send: Sender, pages_app: FastAPI) -> None:
    await send.taken("issues.labeled")
    sessions: Sessions = pages_app.state.site.sessions
    sessions._seconds = 1.0
    async with asyncio.timeout(PATIENCE), served(pages_app) as client, client.stream("GET", "/runs/1/events") as it:
        assert [name async for name, _ in _events(it)] == ["fragments"]


async def test_attack_38_who_signs_in_again_and_again_takes_no_more_places(
    send: Sender, pages_app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.web.live.MOST_OF_ONE", 2)
    site = pages_app.state.site
    async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(served(pages_app))

        async def watched(login: str) -> int:
            response = Response()
            site.sessions.begin(response, login=login, token="t")
            cookie = response.headers["set-cookie"].partition(";")[0]
            stream = client.stream("GET", "/events", headers={"Cookie": cookie})
            return (await stack.enter_async_context(stream)).status_code

        client.cookies.clear()
        assert [await watched(login) for login in ("eve", "eve", "eve", "ann")] == [200, 200, 503, 200]
        site.ending = lambda: True
