"""A canary in every setting that may hold a secret, and in what an older Troop stored, is not shown: attacks 12, 35."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, SecretStr

from bot.cli.main import cli
from bot.lifecycle import RunState
from bot.settings import Settings
from bot.store import Store
from bot.store.models import DELIVERY, RUN
from bot.web.app import create_app
from bot.web.dashboard import create_pages
from tests.bot.queueing import start
from tests.bot.sample import report
from tests.bot.web.conftest import ListDispatcher, browser

REPOSITORY = "octo/hello"
PAGES = (
    *("/", "/runs/1", "/runs/2", f"/repositories/{REPOSITORY}", "/runs/1/report.json", "/runs/1/report.html"),
    *("/runs/1/trajectories/0", "/runs/1/compare?a=1&b=2", "/runs/99", "/sign-in", "/engine"),
)


def planted(model: type[BaseModel], prefix: str = "TROOP_") -> Iterator[tuple[str, str, str]]:
    """Variable, value and canary of every setting that may hold a secret."""
    for name, field in model.model_fields.items():
        variable, kind = f"{prefix}{name.upper()}", field.annotation
        canary = f"Canary9of{name.replace('_', '')}{len(prefix)}x"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from planted(kind, f"{variable}_")
        elif kind is SecretStr:
            yield variable, canary, canary
        elif name == "database_url":
            yield variable, f"postgresql://troop:{canary}@db.internal/troop", canary
        elif name == "redis_url":
            yield variable, f"redis://:{canary}@queue.internal:6379/0", canary
        elif name == "base_url":  # other addresses are refused with a password
            yield variable, f"https://troop:{canary}@{name.replace('_', '-')}.internal", canary
        elif name == "build_environment":
            yield variable, f"PIP_INDEX_URL=https://u:{canary}@packages.internal/simple", canary


PLANTED = tuple(planted(Settings))
CANARIES = tuple(canary for _, _, canary in PLANTED)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value, _ in PLANTED:
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TROOP_APP_ID", "12345")


def test_attack_35_every_secret_that_can_be_set_is_known_as_one(configured: None) -> None:
    assert len(set(CANARIES)) == len(CANARIES) > 10
    assert set(CANARIES) <= set(Settings().secrets())


@pytest.mark.parametrize("words", [("config",), ("config", "--all"), ("doctor",), ("spending",), ("pause",)])
def test_attack_35_no_command_prints_one(configured: None, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*words])
    said = done.output + repr(done.exception)
    assert said
    assert [canary for canary in CANARIES if canary in said] == []


async def test_attack_12_no_page_and_no_export_shows_what_was_stored_before_it_was_a_secret(
    configured: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TROOP_DATABASE_URL", f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    settings = Settings()
    canaries = [one for one in CANARIES if one in settings.secrets()]  # but the other database's
    text = " ".join(canaries)
    older = Store.open(settings.database_url, quota_runs_per_hour=1000)  # which knew of no secrets
    fill(older, text)
    older.close()
    store, dispatcher = Store.from_settings(settings), ListDispatcher()
    app, pages = create_app(settings, store, dispatcher), create_pages(settings, store, dispatcher.enqueue)
    shown = {}
    async with browser(pages) as owner:
        token = settings.admin_token.get_secret_value()
        assert (await owner.post("/sign-in/token", data={"admin_token": token})).status_code == 303
        for path in PAGES:
            answer = await owner.get(path)
            shown[path] = answer.text + str(answer.headers)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4321))
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers) as client:
        for path in ("/setup", "/ready", "/livez", "/metrics", "/nothing"):
            shown[path] = (await client.get(path)).text
    store.close()
    assert "[redacted]" in shown["/"]
    assert "[redacted]" in shown["/runs/2"]
    assert [(path, one) for path, text in shown.items() for one in canaries if one in text] == []


def fill(store: Store, text: str) -> None:
    """Two runs that an older version stored: one that has ended, one under way."""
    for number in (1, 2):
        decision = start(number, REPOSITORY)
        issue = decision.issue.model_copy(update={"title": f"title {text}"})
        store.accept(f"g{number}", "issues", "labeled", decision.model_copy(update={"issue": issue}))
        assert store.claim_run(number, "worker", 60) is not None
        for state in ("checkout", "context", "trajectories"):
            store.advance(number, 1, RunState(state))
    whole = report()
    one = whole.model_copy(update={"notes": (f"note {text}",)})
    store.finish(1, 1, RunState.FAILED, reason=f"reason {text}", report_json=one.model_dump_json())
    store.renew(2, 1, 60, f"progress {text}")
    with store.database.write() as tx:
        tx.execute(RUN.update().values(hold=f"hold {text}"))
        tx.execute(DELIVERY.update().values(note=f"note {text}"))
