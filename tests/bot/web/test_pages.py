import html
import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bot.lifecycle import RunState
from bot.records import (
    Ballot,
    Candidate,
    Context,
    FileChange,
    Issue,
    Outcome,
    Patch,
    Report,
    Standing,
    Test,
    Usage,
    Verdict,
)
from bot.settings import Settings
from bot.store import Store
from bot.web.links import link
from bot.web.pages import age
from tests.bot.web.conftest import Sender, attributes_of
from tests.bot.webhook.deliveries import SECRET

OURS = {  # attributes of the templates
    *("lang", "charset", "name", "content", "rel", "href", "src", "defer", "class", "scope", "id", "tabindex", "role"),
    *("method", "action", "type", "value", "maxlength", "selected", "datetime", "title", "download", "open", "label"),
    *("aria-label", "aria-labelledby", "http-equiv", "data-events", "data-live", "data-name"),
    *("for", "min", "max", "required", "rows"),
}
EVIL = "<script>alert(1)</script></details>\"'><img src=x onerror=alert(1)>"


def _report() -> Report:
    patch = Patch(changes=(FileChange(path=EVIL, text="x"),), diff=f"+{EVIL}\n")
    ballot = Ballot(
        candidates=(Candidate(patch=patch, trajectories=(0,), disqualified=EVIL),),
        tests=(Test(path=EVIL, text=EVIL),),
        base=(False,),
        cells=((True,),),
    )
    standing = Standing(candidate=0, votes=3, own_votes=1, cluster=2, size=9, disqualified=EVIL)
    verdict = Verdict(outcome=Outcome.SOLVED, winner=0, reason=EVIL, standings=(standing,), ballot=ballot)
    return Report(
        issue=Issue(title=EVIL, body=EVIL),
        verdict=verdict,
        context=Context(files=(), tokens=0),
        trajectories=(),
        usage=Usage(calls=1234),
        wall_seconds=1.0,
        notes=(EVIL,),
    )


async def _ended_run(send: Sender, store: Store, report: str, url: str | None) -> int:
    run_id = (await send.taken("issues.labeled", issue__title=EVIL))["run"]
    claimed = store.claim_run(run_id, "worker", 60.0)
    assert claimed is not None
    for state in ("checkout", "context", "trajectories", "matrix", "selection", "publishing"):
        store.advance(run_id, claimed.attempt, RunState(state))
    ended = {"report_json": report, "pull_request_url": url}
    store.finish(run_id, claimed.attempt, RunState.SOLVED, reason=EVIL, **ended)  # type: ignore[arg-type]
    return int(run_id)


async def test_attack_19_nothing_of_a_run_is_markup(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    run_id = await _ended_run(send, store, _report().model_dump_json(), "javascript:alert(1)")
    for path in ("/", f"/runs/{run_id}"):
        page = await owner.get(path)
        assert page.status_code == 200
        assert re.findall(r"<script[^>]*>", page.text) == ['<script src="/live.js" defer>'], "our own alone"
        assert "<img" not in page.text
        assert "javascript:" not in page.text
        assert "&lt;script&gt;" in page.text
        # No quote gets out of an attribute: there is no attribute but those of the templates.
        assert attributes_of(page.text) <= OURS


async def test_the_headers_let_nothing_run(owner: httpx.AsyncClient) -> None:
    for path in ("/", "/style.css"):
        headers = (await owner.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_a_run_shows_its_count(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    url = "https://github.com/octo-org/octo-repo/pull/8"
    run_id = await _ended_run(send, store, _report().model_dump_json(), url)
    page = (await owner.get(f"/runs/{run_id}")).text
    assert f'<a href="{url}">' in page
    assert "1,234 model calls" in page
    assert re.search(r'<tr class="winner">\s*<td>1</td><td>1 of 1, 1 its own</td><td>2</td><td>1</td><td>9</td>', page)
    assert re.search(r'<th scope="row">T1</th><td class="no">✗</td><td class="yes first">✓</td>', page)
    assert "refresh" not in page
    assert "Progress" not in page


@pytest.mark.parametrize(("by_rank", "winner", "other"), [(True, 1, 2), (False, 2, 1)])
async def test_candidates_are_numbered_as_in_the_pull_request(
    send: Sender, store: Store, owner: httpx.AsyncClient, by_rank: bool, winner: int, other: int
) -> None:
    """By rank; in reports of earlier versions, by place in the ballot, as in the comments that they wrote."""
    report = _report()
    ballot = report.verdict.ballot
    first, second = (
        Candidate(patch=Patch(changes=(FileChange(path=name, text="x"),), diff=f"+{name}\n"), trajectories=(t,))
        for t, name in enumerate(("one.py", "two.py"))
    )
    ballot = ballot.model_copy(update={"candidates": (first, second), "cells": ((False,), (True,))})
    standings = tuple(Standing(candidate=c, votes=c, own_votes=0, cluster=1, size=9) for c in (1, 0))
    verdict = report.verdict.model_copy(
        update={"ballot": ballot, "standings": standings, "winner": 1, "numbered_by_rank": by_rank}
    )
    report = report.model_copy(update={"verdict": verdict})
    page = (await owner.get(f"/runs/{await _ended_run(send, store, report.model_dump_json(), None)}")).text
    assert re.search(rf'<tr class="winner">\s*<td>{winner}</td>', page)
    assert re.search(rf'Candidate {winner}, the winner</summary>\s*<pre class="diff" tabindex="0">\+two.py', page)
    assert re.search(rf'<th scope="col" class="first">{winner}</th><th scope="col" class="first">{other}</th>', page)
    assert re.search(r'<td class="yes first">✓</td><td class="no first">✗</td>', page)


async def test_a_running_run_shows_its_stage(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    run_id = (await send.taken("issues.labeled"))["run"]
    claimed = store.claim_run(run_id, "worker", 60.0)
    assert claimed is not None
    store.advance(run_id, claimed.attempt, RunState.CHECKOUT)
    store.advance(run_id, claimed.attempt, RunState.CONTEXT)
    store.renew(run_id, claimed.attempt, 60.0, "reading files (7 of 30)")
    page = (await owner.get(f"/runs/{run_id}")).text
    assert '<li class="done">preparing the repository</li>' in page
    assert '<li class="now" aria-current="step">reading files</li>' in page
    assert '<li class="later">running tests on candidates</li>' in page
    assert "reading files (7 of 30)" in page
    assert 'http-equiv="refresh"' in page


async def test_no_report_or_an_old_one_is_no_error(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    run_id = await _ended_run(send, store, '{"from": "another version"}', None)
    assert (await owner.get(f"/runs/{run_id}")).status_code == 200


async def test_pages_of_runs(send: Sender, owner: httpx.AsyncClient) -> None:
    assert "No run yet" in (await owner.get("/")).text
    for number in range(1, 53):
        await send.taken("issues.labeled", issue__number=number)
    first = (await owner.get("/")).text
    assert 'href="/runs/52"' in first
    assert 'href="/runs/2"' not in first
    older = (await owner.get("/?before=3")).text
    assert 'href="/runs/2"' in older
    assert 'href="/runs/3"' not in older
    assert 'href="/?before=3"' in first


@pytest.mark.parametrize("path", ["/runs/0", "/runs/99", "/runs/-1", f"/runs/{2**80}", "/runs/../etc"])
async def test_unknown_runs_are_404(owner: httpx.AsyncClient, path: str) -> None:
    assert (await owner.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/runs/x", 404, "there is no such page"),
        ("/runs/x/trajectories/y", 404, "there is no such page"),
        ("/nothing", 404, "there is no such page"),
        ("/?before=x", 422, "the address has no valid before"),
    ],
)
async def test_an_address_that_can_mean_nothing_is_a_page_for_people(
    owner: httpx.AsyncClient, path: str, status: int, words: str
) -> None:
    page = await owner.get(path)
    assert (page.status_code, f"<p>{words}</p>" in page.text) == (status, True)
    for_programs = await owner.get(path, headers={"Accept": "application/json"})
    assert (for_programs.status_code, for_programs.json()) == (status, {"error": words})


async def test_a_huge_page_number_is_no_error(owner: httpx.AsyncClient) -> None:
    assert (await owner.get(f"/?before={2**80}")).status_code == 200


async def test_attack_30_there_is_nothing_to_forge(owner: httpx.AsyncClient) -> None:
    for path in ("/", "/runs/1", "/style.css"):
        assert (await owner.post(path)).status_code == 405


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://github.com/o/r/pull/1", True),
        ("https://evil.example.com/o/r/pull/1", False),
        ("javascript:alert(1)", False),
        ("//github.com/o", False),
        (None, False),
    ],
)
def test_links_lead_to_the_forge_alone(url: str | None, shown: bool) -> None:
    assert (link(url, Settings(_env_file=None)) is not None) is shown


async def test_a_secret_that_a_model_writes_is_not_shown(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    token = "ghp_" + "x1Y2" * 9
    key = "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkq\n-----END PRIVATE KEY-----"
    text = _report().model_dump_json().replace("<script>alert(1)", json.dumps(f"{token} {SECRET} {key}")[1:-1])
    run_id = await _ended_run(send, store, text, None)
    page = (await owner.get(f"/runs/{run_id}")).text
    assert "[redacted]" in page
    for secret in (token, SECRET, "MIIBVgIBADANBgkq"):
        assert secret not in html.unescape(page)


# -- the list ----------------------------------------------------------------------------------------------------


async def test_the_list_is_filtered_and_searched(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    ended = await _ended_run(send, store, _report().model_dump_json(), None)
    await send.taken("issues.labeled", issue__number=8, issue__title="another thing")
    for query, wanted in (
        ("state=solved", {ended}),
        ("state=active", {2}),
        ("state=nonsense", {1, 2}),
        ("q=ANOTHER", {2}),
        ("q=%238", {2}),
        ("repository=octo-org/octo-repo", {1, 2}),
        ("repository=octo-org/none", set()),
        ("q=" + "%25" * 300, set()),
    ):
        page = (await owner.get(f"/?{query}")).text
        assert {int(found) for found in re.findall(r'href="/runs/(\d+)"', page)} == wanted, query
    assert "No run is so." in page
    assert 'value="another thing"' not in page
    assert '<option value="solved" selected>' in (await owner.get("/?state=solved")).text


async def test_a_filter_goes_on_over_the_pages(send: Sender, owner: httpx.AsyncClient) -> None:
    for number in range(1, 53):
        await send.taken("issues.labeled", issue__number=number)
    first = (await owner.get("/?q=octo")).text
    assert 'href="/?q=octo&amp;before=3"' in first.replace("&before", "&amp;before")
    second = (await owner.get("/?q=octo&before=3")).text
    assert set(re.findall(r'href="/runs/(\d+)"', second)) == {"2", "1"}
    assert "after=2" in second


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (90_000, "1 day"), (1e6, "11 days")]
)
def test_ages(seconds: float, words: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == words


# -- files -------------------------------------------------------------------------------------------------------


async def test_a_run_is_exported(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    token = "ghp_" + "x1Y2" * 9
    text = _report().model_dump_json().replace("<script>alert(1)", f"{token}")
    run_id = await _ended_run(send, store, text, None)
    answer = await owner.get(f"/runs/{run_id}/report.json")
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run_id}.json"'
    found = answer.json()
    assert found["run"]["id"] == run_id
    assert Report.model_validate(found["report"]).usage.calls == 1234
    page = await owner.get(f"/runs/{run_id}/report.html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert "<style>" in page.text
    for one in (answer.text, page.text):
        assert token not in one
        assert "[redacted]" in one
    other = (await send.taken("issues.labeled", issue__number=9))["run"]
    assert (await owner.get(f"/runs/{other}/report.json")).status_code == 404
