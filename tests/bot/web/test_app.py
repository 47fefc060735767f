import asyncio
import logging
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from bot.errors import SettingsError, StoreUnavailable
from bot.lifecycle import RunState
from bot.records import Command, CommandName
from bot.settings import Settings
from bot.store import Store
from bot.web import app as app_module
from bot.web.app import create_app
from bot.webhook.delivery import MAX_BODY, signature
from tests.bot.web.conftest import ADMIN_TOKEN, ListDispatcher, Sender
from tests.bot.webhook.deliveries import NAMES, SECRET, payload, request
from tests.patience import PATIENCE


def _runs(store: Store) -> list[tuple[int, RunState]]:
    return [(run.id, run.state) for run in store.runs()]


async def test_a_labelled_issue_becomes_a_run(send: Sender, store: Store, dispatcher: ListDispatcher) -> None:
    answer = await send.taken("issues.labeled", guid="g-1")
    assert answer["decision"] == "StartRun"
    assert answer["duplicate"] is False
    [(run_id, state)] = _runs(store)
    assert answer["run"] == run_id
    assert state is RunState.QUEUED
    assert dispatcher.jobs == [answer["job"]] == [f"run:{run_id}:0"]
    [stored] = store.deliveries()
    assert (stored.guid, stored.event, stored.action, stored.decision) == ("g-1", "issues", "labeled", "StartRun")


async def test_a_comment_becomes_a_command(send: Sender, store: Store, dispatcher: ListDispatcher) -> None:
    await send.taken("issues.labeled")
    answer = await send.taken("issue_comment.created")
    assert (answer["decision"], answer["run"]) == ("ReceiveCommand", None)
    assert dispatcher.jobs[1] == answer["job"]
    claimed = store.claim_command(int(answer["job"].split(":")[1]), "worker", 60.0)
    assert claimed is not None
    assert claimed.command == Command(name=CommandName.USE, argument=2)
    assert (claimed.sender, claimed.issue_number) == ("octocat", 7)


@pytest.mark.parametrize("name", NAMES)
async def test_every_payload_is_answered_202(send: Sender, name: str) -> None:
    await send.taken(name)


@pytest.mark.parametrize("name", ["ping", "installation.created", "push", "issues.opened", "issue_comment.edited"])
async def test_what_comes_to_nothing_leaves_no_row(send: Sender, store: Store, name: str) -> None:
    answer = await send.taken(name)
    assert answer["decision"] in ("Answer", "Ignore")
    assert answer["reason"]
    assert store.deliveries() == ()


@pytest.mark.parametrize(
    "header",
    [{}, {"X-Hub-Signature": "sha1=" + "0" * 40}, {"X-Hub-Signature-256": "sha256=" + "0" * 64}],
    ids=["missing", "sha1", "wrong"],
)
async def test_attack_01_no_good_signature_is_401_and_leaves_no_row(
    client: httpx.AsyncClient, store: Store, dispatcher: ListDispatcher, header: dict[str, str]
) -> None:
    body, headers = request("issues", payload("issues.labeled"))
    kept = {name: value for name, value in headers.items() if not name.startswith("X-Hub")}
    response = await client.post("/webhook", content=body, headers=kept | header)
    assert response.status_code == 401
    assert store.deliveries() == ()
    assert dispatcher.jobs == []


async def test_attack_01_a_signature_that_is_not_ascii_is_401(client: httpx.AsyncClient) -> None:
    body, headers = request("issues", payload("issues.labeled"))
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    for value in ("sha256=é".encode(), b"sha256=\xff\xfe", b""):
        response = await client.post("/webhook", content=body, headers=raw | {b"X-Hub-Signature-256": value})
        assert response.status_code == 401


async def test_attack_02_a_changed_byte_is_401(client: httpx.AsyncClient, store: Store) -> None:
    body, headers = request("issues", payload("issues.labeled"))
    response = await client.post("/webhook", content=body.replace(b"clamp", b"cramp", 1), headers=headers)
    assert response.status_code == 401
    assert store.deliveries() == ()


async def test_attack_03_nesting_and_content_types(client: httpx.AsyncClient) -> None:
    body, headers = request("issues", b"[" * 1_000_000)
    assert (await client.post("/webhook", content=body, headers=headers)).status_code == 400
    body, headers = request("issues", b"payload=%7B%7D")
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    refused = await client.post("/webhook", content=body, headers=headers)
    assert refused.status_code == 415
    assert "application/json" in refused.json()["error"]


async def test_attack_03_an_endless_body_is_413_in_bounded_memory(app: FastAPI) -> None:
    """Straight on ASGI, to count what the application takes."""
    taken = 0
    part = b" " * 1_000_000

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += len(part)
        return {"type": "http.request", "body": part, "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"x-hub-signature-256", b"sha256=" + b"0" * 64), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/webhook", "raw_path": b"/webhook", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}
    await app(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    assert taken < 3 * MAX_BODY


async def test_attack_04_same_guid_fifty_times(send: Sender, store: Store, dispatcher: ListDispatcher) -> None:
    answers = await asyncio.gather(*(send.taken("issues.labeled", guid="the-same") for _ in range(50)))
    assert sorted(answer["duplicate"] for answer in answers) == [False] + [True] * 49
    assert len(_runs(store)) == 1
    assert len(dispatcher.jobs) == 1


async def test_attack_05_new_guid_same_label(send: Sender, store: Store, dispatcher: ListDispatcher) -> None:
    answers = await asyncio.gather(*(send.taken("issues.labeled", guid=f"g-{i}") for i in range(20)))
    assert len([answer for answer in answers if answer["run"] is not None]) == 1
    assert len(_runs(store)) == 1
    assert len(dispatcher.jobs) == 1


async def test_attack_06_unlabel_before_label(send: Sender, store: Store) -> None:
    """Out of order: nothing to cancel yet; the late label's run is checked against the issue by its worker."""
    answer = await send.taken("issues.unlabeled")
    assert (answer["decision"], answer["run"]) == ("CancelRun", None)
    assert _runs(store) == []


@pytest.mark.parametrize("name", ["issues.unlabeled", "issues.closed", "issues.transferred", "issues.deleted"])
async def test_attack_06_what_is_not_wanted_any_more_stops(send: Sender, store: Store, name: str) -> None:
    await send.taken("issues.labeled")
    await send.taken(name)
    assert [state for _, state in _runs(store)] == [RunState.STOPPED]


async def test_attack_06_a_closed_issue_starts_nothing(send: Sender, store: Store) -> None:
    await send.taken("issues.labeled", issue__state="closed")
    assert _runs(store) == []


async def test_attack_07_a_label_waits_for_the_permission_check(send: Sender, store: Store) -> None:
    """`author_association` proves nothing, so the web believes none: the run is queued until its worker has asked."""
    await send.taken("issues.labeled", issue__author_association="OWNER")
    assert [state for _, state in _runs(store)] == [RunState.QUEUED]


async def test_attack_08_a_command_waits_for_the_permission_check(send: Sender, store: Store) -> None:
    await send.taken("issues.labeled")
    outsider = {"login": "outsider", "id": 1, "type": "User"}
    changes = {"sender": outsider, "comment__user": outsider, "comment__body": "/troop stop"}
    answer = await send.taken("issue_comment.created", **changes)
    assert answer["decision"] == "ReceiveCommand"
    assert [state for _, state in _runs(store)] == [RunState.QUEUED]  # nothing was stopped yet


async def test_attack_09_bots_and_ourselves(send: Sender, dispatcher: ListDispatcher) -> None:
    for login in ("troop[bot]", "dependabot[bot]"):
        bot = {"login": login, "id": 1, "type": "Bot"}
        assert (await send.taken("issue_comment.created", sender=bot, comment__user=bot))["decision"] == "Ignore"
        assert (await send.taken("issues.labeled", sender=bot))["decision"] == "Ignore"
    assert dispatcher.jobs == []


async def test_attack_10_quoted_fenced_edited(send: Sender, dispatcher: ListDispatcher) -> None:
    for body in ("> /troop stop", "```\n/troop stop\n```"):
        assert (await send.taken("issue_comment.created", comment__body=body))["decision"] == "Ignore"
    assert (await send.taken("issue_comment.edited"))["decision"] == "Ignore"
    assert dispatcher.jobs == []


async def test_attack_11_foreign_repository_and_suspended(send: Sender, store: Store) -> None:
    foreign = await send.taken("issues.labeled", repository__full_name="elsewhere/x")
    suspended = await send.taken("issues.labeled", installation={"id": 1, "suspended_at": "2024-03-03T00:00:00Z"})
    assert (foreign["decision"], suspended["decision"]) == ("Ignore", "Ignore")
    assert _runs(store) == []


async def test_text_that_no_database_takes_is_cleaned(send: Sender, store: Store) -> None:
    await send.taken("issues.labeled", issue__title="a\x00b", issue__body="c\x00d")
    assert [run.issue_title for run in store.runs()] == ["ab"]


@pytest.mark.parametrize("error", [ConnectionError("down"), TimeoutError(), RuntimeError("bug")])
async def test_a_queue_out_of_reach_is_still_202(
    send: Sender, store: Store, dispatcher: ListDispatcher, client: httpx.AsyncClient, error: Exception
) -> None:
    dispatcher.error = error
    answer = await send.taken("issues.labeled")
    assert store.due() == (answer["job"],)
    assert "troop_jobs_not_queued_total 1.0" in (await client.get("/metrics")).text


async def test_a_queue_that_hangs_is_still_202(
    send: Sender, store: Store, dispatcher: ListDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(job_id: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dispatcher, "enqueue", forever)
    monkeypatch.setattr("bot.web.app.ENQUEUE_TIMEOUT", 0.01)
    await send.taken("issues.labeled")
    assert len(store.due()) == 1


async def test_a_database_out_of_reach_is_503(
    send: Sender, store: Store, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise StoreUnavailable("the database can't be used now: disk full")

    monkeypatch.setattr(store, "accept_all", broken)
    monkeypatch.setattr(store, "counts", broken)
    assert (await send("issues.labeled")).status_code == 503
    assert (await send("ping")).status_code == 202
    assert (await client.get("/ready")).status_code == 503
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200


async def test_the_log_line(send: Sender, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bot.web.app")
    await send.taken("issues.labeled", guid="g-7")
    await send.taken("push", guid="g-8")
    lines = [record.getMessage() for record in caplog.records if record.name == "bot.web.app"]
    assert lines[0].startswith(
        "delivery guid=g-7 event=issues.labeled decision=StartRun job=run:1:0 duplicate=False ms="
    )
    assert lines[1].startswith("delivery guid=g-8 event=push decision=Ignore job=- ")
    assert lines[1].endswith("reason=push is not handled")


async def test_no_log_line_is_written_by_a_payload(send: Sender, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bot.web.app")
    await send.taken("issues.labeled", issue__state="closed\ndelivery guid=forged")
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_metrics_count_by_decision_and_state(send: Sender, client: httpx.AsyncClient) -> None:
    await send.taken("issues.labeled", guid="g")
    await send.taken("issues.labeled", guid="g")
    await send.taken("push")
    await client.post("/webhook", content=b"{}")
    text = (await client.get("/metrics")).text
    assert 'troop_deliveries_total{decision="StartRun"} 2.0' in text
    assert 'troop_deliveries_total{decision="Ignore"} 1.0' in text
    assert "troop_deliveries_duplicate_total 1.0" in text
    assert 'troop_deliveries_refused_total{status="401"} 1.0' in text
    assert 'troop_runs{state="queued"} 1.0' in text
    assert "troop_acknowledgement_seconds_count 3.0" in text
    assert "octo" not in text


async def test_ready_tells_of_the_queue(send: Sender, client: httpx.AsyncClient, dispatcher: ListDispatcher) -> None:
    assert (await client.get("/ready")).json() == {"database": "ok", "queue": "ok"}
    dispatcher.error = ConnectionError("refused")
    await send.taken("issues.labeled")
    answer = await client.get("/ready", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert (answer.status_code, answer.json()["queue"]) == (200, "ConnectionError: refused")
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer \u00e9".encode()},
        {"Host": "localhost"},
    ):
        assert "refused" not in (await client.get("/ready", headers=headers)).text  # type: ignore[arg-type]
    dispatcher.error = None
    await send.taken("issue_comment.created")
    assert (await client.get("/ready")).json() == {"database": "ok", "queue": "ok"}


def test_without_a_secret_nothing_is_served(store: Store, dispatcher: ListDispatcher) -> None:
    with pytest.raises(SettingsError, match="TROOP_WEBHOOK_SECRET"):
        create_app(Settings(_env_file=None), store, dispatcher)


async def test_no_other_method_and_no_documentation(client: httpx.AsyncClient) -> None:
    assert (await client.get("/webhook")).status_code == 405
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await client.get(path)).status_code == 404


# -- over real HTTP ----------------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
async def address(app: FastAPI, listening: socket.socket) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await serving


async def test_attack_03_26_megabytes_over_http(address: str, store: Store) -> None:
    body = b'{"a": "' + b"x" * (26 * 1024 * 1024) + b'"}'
    _, headers = request("issues", b"{}")
    headers["X-Hub-Signature-256"] = signature(SECRET.encode(), body)
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{address}/webhook", content=body, headers=headers)).status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 1 << 20):
                yield body[at : at + (1 << 20)]

        assert (await client.post(f"{address}/webhook", content=chunks(), headers=headers)).status_code == 413
        assert (await client.get(f"{address}/health")).status_code == 200
    assert store.deliveries() == ()


async def test_attack_04_over_http(address: str, store: Store, dispatcher: ListDispatcher) -> None:
    body, headers = request("issues", payload("issues.labeled"), guid="the-same")
    async with httpx.AsyncClient() as client:
        posts = (client.post(f"{address}/webhook", content=body, headers=headers) for _ in range(50))
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {202}
    assert len(_runs(store)) == len(dispatcher.jobs) == 1


@pytest.mark.parametrize("value", ["", "sha256=", "sha256=" + "0" * 63, "sha1=" + "0" * 40, "sha256=" + "g" * 64])
async def test_no_body_is_read_for_a_malformed_signature(client: httpx.AsyncClient, value: str) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    response = await client.post("/webhook", content=never(), headers={"X-Hub-Signature-256": value})
    assert response.status_code == 401


async def test_a_locked_database_is_503_before_github_gives_up(
    send: Sender, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "ACCEPT_SECONDS", 0.05)
    other = sqlite3.connect(settings.database_url.removeprefix("sqlite:///"))
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(send("issues.labeled", guid=f"g-{n}") for n in range(5)))
    assert [answer.status_code for answer in answers] == [503] * 5
    other.rollback()
    other.close()
    monkeypatch.setattr(app_module, "ACCEPT_SECONDS", PATIENCE)
    assert (await send("issues.labeled", guid="g-1")).status_code == 202
    assert len(_runs(store)) == 1


async def test_metrics_count_the_runs_once_a_second(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "METRICS_SECONDS", PATIENCE)
    counted: list[int] = []
    counts = store.counts
    monkeypatch.setattr(store, "counts", lambda: (counted.append(1), counts())[1])
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert "troop_runs" in answers[0].text
    assert len(counted) == 1
