import asyncio
import html
import re
import threading
from collections.abc import Sequence

import httpx
import pytest
from pydantic import SecretStr

from bot.journal import MemoryJournal
from bot.llm.conversation import Conversation, Sampling
from bot.llm.journaled import JournaledModel
from bot.llm.transcript import Exchange, transcript
from bot.records import Message
from bot.settings import Settings
from bot.store import DbJournal, Store
from bot.web import report_page
from bot.web.report_page import candidate_of, diff_html, diff_lines, grouped, matrix, standalone
from bot.web.site import Site
from tests.bot.sample import report as sample_report
from tests.bot.web.conftest import Sender
from tests.bot.web.test_pages import EVIL, _report
from tests.bot.webhook.deliveries import SECRET
from tests.scripted import ScriptedModel

SAMPLING = Sampling(seed=0, max_tokens=100, temperature=0.5)


def evil(key: str, messages: Sequence[Message]) -> str:
    return f"```{EVIL}```"


async def talk(model: JournaledModel, key: str) -> None:
    opening = (Message(role="user", content=EVIL * 100 + key),)
    conversation = Conversation(model, key, opening, SAMPLING)
    await conversation.ask()
    conversation.say(f"{EVIL} again")
    await conversation.ask()


async def conversations() -> dict[str, tuple[Exchange, ...]]:
    journal = MemoryJournal()
    model = JournaledModel(ScriptedModel(evil), journal)
    for number in range(3):
        await talk(model, f"trajectory/{number}/edit")
    names = (f"trajectory/{number}/" for number in range(3))
    return {name.strip("/").replace("/", "-"): transcript(name, journal.entries, journal.entries.get) for name in names}


@pytest.mark.parametrize(
    ("line", "kind"),
    [("+added", "add"), ("-taken", "del"), ("@@ -1 +1 @@", "hunk"), (" same", ""), ("--- a comment in SQL", "del")],
)
def test_lines_of_a_diff_are_told_apart(line: str, kind: str) -> None:
    head = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n"
    assert list(diff_lines(head + line))[-1] == (kind, line)
    assert [found for found, _ in diff_lines(head)] == ["file", "file", "file", "hunk"]


def test_candidates_that_behave_alike_are_side_by_side() -> None:
    report = sample_report()
    cells = report.verdict.ballot.cells
    columns = grouped(report)
    assert sorted(column.candidate for column in columns) == list(range(len(cells)))
    rows = [cells[column.candidate] for column in columns]
    assert [column.first for column in columns] == [i == 0 or rows[i] != rows[i - 1] for i in range(len(rows))]
    firsts = [row for row, column in zip(rows, columns, strict=True) if column.first]
    assert len(set(firsts)) == len(firsts)


def test_the_matrix_has_a_row_a_test_and_a_cell_a_candidate() -> None:
    report = sample_report()
    ballot = report.verdict.ballot
    rows = matrix(ballot, grouped(report))
    assert sorted(t for t, _, _ in rows) == list(range(len(ballot.tests)))
    assert [votes for _, votes, _ in rows] == sorted((votes for _, votes, _ in rows), reverse=True)
    signs = {True: "✓", False: "✗", None: "·"}
    for t, votes, cells in rows:
        assert votes == (t in ballot.voting)
        shown = [ballot.base[t], *(ballot.cells[column.candidate][t] for column in grouped(report))]
        assert re.findall(r"<td[^>]*>(.)</td>", cells) == [signs[passed] for passed in shown]


def test_a_diff_is_no_markup() -> None:
    shown = diff_html(f"diff --git a/x b/x\n@@ -1 +1 @@\n+{EVIL}\n {EVIL}\n")
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 2 * EVIL.count("<script>")
    assert shown.count("<span") == shown.count("</span>") == 3


def test_a_trajectory_is_linked_with_its_test_and_candidate() -> None:
    report = sample_report()
    ballot = report.verdict.ballot
    for number, candidate in enumerate(ballot.candidates):
        for trajectory in candidate.trajectories:
            assert candidate_of(report, trajectory) == str(report.verdict.number(number))
    assert candidate_of(report, 999) == report_page.tests_of(report, 999) == ""


async def test_the_page_of_a_run_is_one_file_in_which_nothing_is_markup() -> None:
    page = standalone(_report(), await conversations())
    assert "<script" not in page
    assert "<img" not in page
    attributes = set(re.findall(r"<\w+[^>]*?\s([\w-]+)=", page))
    assert attributes <= {"lang", "charset", "name", "content", "href", "class", "scope", "id"} | {
        "tabindex",
        "role",
        "aria-label",
    }
    assert not re.search(r'(?:href|src)="(?!#)', page)  # nothing is fetched
    assert page.count("&lt;script&gt;") > 8


async def test_what_conversations_share_is_on_the_page_once() -> None:
    found = await conversations()
    page = standalone(_report(), found)
    assert page.count('id="opening-1"') == 1
    assert page.count('href="#opening-1"') == len(found)
    for number in range(3):
        assert f'<details id="trajectory-{number}"><summary>Trajectory {number + 1}</summary>' in page
        assert f"{number}/edit" in page  # where an opening differs


async def test_a_trajectory_has_a_page_also_while_it_runs(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    run_id = (await send.taken("issues.labeled"))["run"]
    claimed = store.claim_run(run_id, "worker", 60.0)
    assert claimed is not None
    await talk(JournaledModel(ScriptedModel(evil), DbJournal(store, run_id, claimed.attempt)), "trajectory/3/edit")
    page = (await owner.get(f"/runs/{run_id}/trajectories/3")).text
    assert f'Trajectory 4 of <a href="/runs/{run_id}">run {run_id}</a>' in page
    assert page.count('<section class="call">') == 2
    assert page.count("<script") == 1, "our own"
    assert "again" in page


async def test_a_conversation_is_shown_without_secrets(send: Sender, store: Store, owner: httpx.AsyncClient) -> None:
    run_id = (await send.taken("issues.labeled"))["run"]
    claimed = store.claim_run(run_id, "worker", 60.0)
    assert claimed is not None
    token = "ghp_" + "x1Y2" * 9

    def leaking(key: str, messages: Sequence[Message]) -> str:
        return f"```{token} {SECRET}```"

    await talk(JournaledModel(ScriptedModel(leaking), DbJournal(store, run_id, claimed.attempt)), "trajectory/3/edit")
    page = (await owner.get(f"/runs/{run_id}/trajectories/3")).text
    assert "[redacted]" in page
    assert token not in page
    assert html.escape(SECRET) not in page
    assert SECRET not in html.unescape(page)


@pytest.mark.parametrize("place", ["/runs/1/trajectories/3", "/runs/99/trajectories/0", "/runs/1/trajectories/-1"])
async def test_a_trajectory_that_is_not_there_is_not_found(send: Sender, owner: httpx.AsyncClient, place: str) -> None:
    await send.taken("issues.labeled")
    assert (await owner.get(place)).status_code == 404


async def test_what_computes_for_long_is_done_one_after_the_other(store: Store) -> None:
    """Deliveries wait for the interpreter behind each that is made at the same time."""
    site = Site(Settings(_env_file=None, admin_token=SecretStr("x" * 20)), store)
    alone = threading.Lock()
    met: list[bool] = []

    def compute() -> None:
        met.append(not alone.acquire(blocking=False))
        threading.Event().wait(0.002)  # lets another thread begin
        alone.release()

    await asyncio.gather(*(site.compute(compute) for _ in range(8)))
    assert met == [False] * 8
