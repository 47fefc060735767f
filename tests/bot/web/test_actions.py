"""Actions of the pages: only by a form of one's own session, only with permission, and only once."""

import logging
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bot.lifecycle import RunState
from bot.records import Command, CommandName, Outcome
from bot.settings import Settings
from bot.store import Store
from tests.bot.web.conftest import ADMIN_TOKEN, PAGES, ListDispatcher, Sender, browser, form_of, sign_in
from tests.bot.web.test_pages import _ended_run, _report
from tests.bot.webhook.deliveries import SECRET
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer

__all__ = ["github", "github_server"]

REPOSITORY = "octo-org/octo-repo"
OWNER = "the machine's owner"


@pytest.fixture
def settings(github: GitHubServer, tmp_path: Path) -> Settings:
    github.world.app.callback_urls = [f"{PAGES}/sign-in/callback"]
    github.create_repository(REPOSITORY, {"a.py": "x = 1\n"})
    github.set_permission(REPOSITORY, "alice", "write")
    github.set_permission(REPOSITORY, "rita", "read")
    database = f"sqlite:///{tmp_path / 'troop.sqlite3'}"
    return settings_for(github, webhook_secret=SECRET, admin_token=ADMIN_TOKEN, database_url=database)


def _undecided() -> str:
    """A report without a winner, so that a candidate may be chosen."""
    report = _report()
    verdict = report.verdict.model_copy(update={"winner": None, "outcome": Outcome.ABSTAINED})
    return report.model_copy(update={"verdict": verdict}).model_dump_json()


def _taken(store: Store, dispatcher: ListDispatcher) -> tuple[str, Command]:
    """The newest command, as a worker claims it: who, and what."""
    claimed = store.claim_command(int(dispatcher.jobs[-1].removeprefix("command:")), "worker", 60.0)
    assert claimed is not None
    assert (claimed.repository, claimed.issue_number) == (REPOSITORY, 7)
    return claimed.sender, claimed.command


async def _page(client: httpx.AsyncClient, run: int) -> str:
    page = await client.get(f"/runs/{run}")
    assert page.status_code == 200
    return page.text


async def test_a_button_is_a_command(
    send: Sender,
    store: Store,
    alice: httpx.AsyncClient,
    dispatcher: ListDispatcher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    fields = form_of(await _page(alice, run), f"/runs/{run}/stop")
    with caplog.at_level(logging.INFO, logger="bot.web"):
        answer = await alice.post(f"/runs/{run}/stop", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run}?done=stop")
    assert "Asked for: stop" in (await alice.get(answer.headers["location"])).text
    assert _taken(store, dispatcher) == ("alice", Command(name=CommandName.STOP, by_page=True))
    assert f"page action=stop argument=- run={run} repository={REPOSITORY} by=alice" in caplog.text
    jobs = len(dispatcher.jobs)
    again = await alice.post(f"/runs/{run}/stop", data=fields)  # pressed twice
    assert (again.status_code, len(dispatcher.jobs)) == (303, jobs)


async def test_an_ended_run_offers_what_comments_do(
    send: Sender, store: Store, alice: httpx.AsyncClient, dispatcher: ListDispatcher
) -> None:
    run = await _ended_run(send, store, _undecided(), None)
    page = await _page(alice, run)
    assert f'action="/runs/{run}/stop"' not in page
    await alice.post(f"/runs/{run}/retry", data=form_of(page, f"/runs/{run}/retry"))
    assert _taken(store, dispatcher)[1].name is CommandName.RETRY
    await alice.post(f"/runs/{run}/use", data=form_of(page, f"/runs/{run}/use") | {"candidate": "2"})
    following = store.finish_command(1, 1)
    assert following == 2
    assert _taken(store, dispatcher)[1] == Command(name=CommandName.USE, argument=2, by_page=True)


async def test_words_go_to_the_next_fix(
    send: Sender, store: Store, alice: httpx.AsyncClient, dispatcher: ListDispatcher
) -> None:
    run = await _ended_run(send, store, _undecided(), None)
    page = await _page(alice, run)
    words = "Keep the name.\r\n\r\n    and `/troop stop` is no command here\n- é"
    fields = form_of(page, f"/runs/{run}/retry")
    await alice.post(f"/runs/{run}/retry", data=fields | {"words": words})
    taken = _taken(store, dispatcher)[1]
    assert (taken.name, taken.by_page) == (CommandName.RETRY, True)
    assert taken.words == words.replace("\r\n", "\n")
    jobs = len(dispatcher.jobs)
    long = fields | {"words": "x" * 9000, "nonce": "another"}
    assert (await alice.post(f"/runs/{run}/retry", data=long)).status_code == 422
    assert len(dispatcher.jobs) == jobs


@pytest.mark.parametrize("candidate", ["", "0", "two", "1; rm", "99999"])
async def test_what_is_no_candidate_is_refused(
    send: Sender, store: Store, alice: httpx.AsyncClient, dispatcher: ListDispatcher, candidate: str
) -> None:
    run = await _ended_run(send, store, _undecided(), None)
    fields = form_of(await _page(alice, run), f"/runs/{run}/use") | {"candidate": candidate}
    jobs = len(dispatcher.jobs)
    assert (await alice.post(f"/runs/{run}/use", data=fields)).status_code == 422
    assert len(dispatcher.jobs) == jobs


@pytest.mark.parametrize("action", ["status", "help", "erase"])
async def test_there_are_no_other_actions(send: Sender, alice: httpx.AsyncClient, action: str) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    fields = form_of(await _page(alice, run), f"/runs/{run}/stop")
    assert (await alice.post(f"/runs/{run}/{action}", data=fields)).status_code == 422


async def test_nothing_is_done_by_a_get_or_a_forged_form(
    send: Sender, store: Store, alice: httpx.AsyncClient, pages_app: FastAPI, dispatcher: ListDispatcher
) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    fields = form_of(await _page(alice, run), f"/runs/{run}/stop")
    jobs = len(dispatcher.jobs)
    assert (await alice.get(f"/runs/{run}/stop", params=fields)).status_code == 405
    for forged in ({}, fields | {"token": ""}, fields | {"token": "0" * 64}):
        assert (await alice.post(f"/runs/{run}/stop", data=forged)).status_code == 403
    elsewhere = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    assert (await alice.post(f"/runs/{run}/stop", data=fields, headers=elsewhere)).status_code == 403
    async with browser(pages_app) as stranger:
        assert (await stranger.post(f"/runs/{run}/stop", data=fields)).status_code == 401
    async with browser(pages_app) as other:  # of the same person, in another session
        await sign_in(other, "alice")
        assert (await other.post(f"/runs/{run}/stop", data=fields)).status_code == 403
    assert len(dispatcher.jobs) == jobs
    assert [one.stop_requested for one in store.runs()] == [False]


async def test_who_may_only_read_can_not_act(
    send: Sender, github: GitHubServer, pages_app: FastAPI, alice: httpx.AsyncClient, dispatcher: ListDispatcher
) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    jobs = len(dispatcher.jobs)
    async with browser(pages_app) as rita:
        await sign_in(rita, "rita")
        page = await _page(rita, run)
        assert f"/runs/{run}/stop" not in page
        data = {"token": form_of(page, "/sign-out")["token"], "nonce": "n"}
        assert (await rita.post(f"/runs/{run}/stop", data=data)).status_code == 403
    fields = form_of(await _page(alice, run), f"/runs/{run}/stop")
    github.set_permission(REPOSITORY, "alice", "read")  # since the page was shown: GitHub is asked again
    assert (await alice.post(f"/runs/{run}/stop", data=fields)).status_code == 403
    assert len(dispatcher.jobs) == jobs


async def test_the_machines_owner_acts_and_the_log_says_who(
    send: Sender,
    store: Store,
    owner: httpx.AsyncClient,
    dispatcher: ListDispatcher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = await _ended_run(send, store, _undecided(), None)
    page = await _page(owner, run)
    for action, more in (("use", {"candidate": "2"}), ("retry", {"words": "keep zero"}), ("more", {"attempts": "3"})):
        with caplog.at_level(logging.INFO, logger="bot.web"):
            await owner.post(f"/runs/{run}/{action}", data=form_of(page, f"/runs/{run}/{action}") | more)
        who, command = _taken(store, dispatcher)
        assert (who, command.name.value, command.by_page, command.by_owner) == (OWNER, action, True, True)
        assert f"page action={action} argument={command.argument or '-'} run={run}" in caplog.text
        assert f"by={OWNER}" in caplog.text
        store.finish_command(int(dispatcher.jobs[-1].removeprefix("command:")), 1)
    forged = {"token": "0" * 64, "nonce": "n"}
    assert (await owner.post(f"/runs/{run}/retry", data=forged)).status_code == 403


@pytest.mark.parametrize("attempts", ["0", "-1", "many", "99999"])
async def test_more_attempts_are_a_number(
    send: Sender, store: Store, alice: httpx.AsyncClient, dispatcher: ListDispatcher, attempts: str
) -> None:
    run = await _ended_run(send, store, _undecided(), None)
    fields = form_of(await _page(alice, run), f"/runs/{run}/more")
    jobs = len(dispatcher.jobs)
    assert (await alice.post(f"/runs/{run}/more", data=fields | {"attempts": attempts})).status_code == 422
    assert len(dispatcher.jobs) == jobs
    await alice.post(f"/runs/{run}/more", data=fields | {"attempts": "4"})
    assert _taken(store, dispatcher)[1] == Command(name=CommandName.MORE, argument=4, by_page=True)


async def test_a_repository_off_the_list_takes_no_action(
    send: Sender, settings: Settings, store: Store, dispatcher: ListDispatcher
) -> None:
    from bot.web.dashboard import create_pages

    run = int((await send.taken("issues.labeled"))["run"])
    narrowed = settings.model_copy(update={"repositories": ("acme/*",)})
    async with browser(create_pages(narrowed, store, dispatcher.enqueue)) as client:
        await sign_in(client, "alice")
        fields = form_of(await _page(client, run), f"/runs/{run}/stop")
        answer = await client.post(f"/runs/{run}/stop", data=fields)
    assert answer.status_code == 403
    assert "TROOP_REPOSITORIES" in answer.text
    assert [one.state for one in store.runs()] == [RunState.QUEUED]


async def test_too_many_commands_are_told(
    send: Sender, alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = int((await send.taken("issues.labeled"))["run"])
    monkeypatch.setattr("bot.store.deliveries.COMMANDS_PER_HOUR", 1)
    fields = form_of(await _page(alice, run), f"/runs/{run}/stop")
    statuses = [(await alice.post(f"/runs/{run}/stop", data=fields | {"nonce": n})).status_code for n in "ab"]
    assert statuses == [303, 429]
