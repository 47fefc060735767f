"""What a server needs is looked at by the same checks at start, at `/ready` and by the doctor."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from pydantic import SecretStr

from bot.cli.main import cli
from bot.contracts import Dispatcher
from bot.errors import SettingsError
from bot.preflight import Finding, Readiness, checks, examine, services, start_refused
from bot.preflight.readiness import FRESH, FRESH_GITHUB
from bot.settings import ModelSettings, Settings
from bot.store import Store
from bot.web.app import create_app
from bot.web.serve import run_server
from bot.worker.process import run_worker
from tests.bot.webhook.deliveries import SECRET
from tests.github.fixtures import github, github_server, settings_for
from tests.github.server import GitHubServer, make_key
from tests.scripted import rules
from tests.scripted_endpoint import scripted_endpoint
from tests.services import free_port

__all__ = ["github", "github_server"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without `.env`, and a Docker that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    level = logging.getLogger("bot").level
    yield tmp_path
    logging.getLogger("bot").setLevel(level)


def ours(github: GitHubServer, **more: Any) -> Settings:
    values = {"webhook_secret": SecretStr(SECRET), "app_slug": "", "port": free_port(), "pages": {"port": 0}}
    return settings_for(github, **(values | more))


async def missing(settings: Settings, *, works: bool = True) -> dict[str, str]:
    return {one.name: one.words for one in await examine(settings, works=works) if one.level == "missing"}


async def test_each_thing_that_is_missing_is_named_with_its_remedy(github: GitHubServer) -> None:
    endpoint = ModelSettings(base_url="http://127.0.0.1:9/v1")
    settings = ours(
        github,
        redis_url="redis://127.0.0.1:9/0",
        database_url="postgresql://troop@127.0.0.1:9/troop",
        main=endpoint,
        relevance=endpoint,
        app_id=7,
    )
    found = await missing(settings)
    assert set(found) == {"database", "redis", "GitHub", "docker", "model endpoint", "relevance endpoint"}
    for name, mend in (
        ("database", "TROOP_DATABASE_URL"),
        ("redis", "TROOP_REDIS_URL"),
        ("GitHub", "TROOP_APP_ID"),
        ("docker", "DOCKER_HOST"),
        ("model endpoint", "TROOP_MAIN_BASE_URL"),
        ("relevance endpoint", "TROOP_RELEVANCE_BASE_URL"),
    ):
        assert mend in found[name]


async def test_https_where_github_speaks_http_is_no_matter_of_certificates(github: GitHubServer) -> None:
    api, web = (url.replace("http://", "https://") for url in (github.api_url, github.url))
    settings = ours(github, github_url=api, github_web_url=web)
    found = (await missing(settings, works=False))["GitHub"]
    assert "does not speak TLS" in found
    assert "does it begin with http://" in found


async def test_a_name_that_the_endpoint_does_not_list_is_told_and_no_password_of_its_address() -> None:
    with scripted_endpoint(rules([])) as endpoint:
        url = endpoint.base_url.replace("http://", "http://someone:a-pass-word@")
        found = {
            name: (await services.endpoint(Settings(_env_file=None, main=ModelSettings(base_url=url, name=name))))[0]
            for name in ("", "scripted", "gpt")
        }
    assert [one.level for one in found.values()] == ["ok", "ok", "optional"]
    assert "does not list gpt, but scripted; correct TROOP_MAIN_NAME" in found["gpt"].words
    assert not any("a-pass-word" in one.words for one in found.values())


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("database_url", "sqlite:///{folder}", "is a folder; name a file in it: sqlite:///"),
        ("database_url", "postgresql://u@h:port/d", "is not a database URL"),
        ("database_url", "postgres://u@h/d", "postgres is not supported; use sqlite or postgresql"),
        ("database_url", "postgresql+asyncpg://u:pw@h/d", "the driver asyncpg is not supported; begin it with postg"),
        ("database_url", "sqlite://", "names no file"),
        ("redis_url", "localhost:6379", "TROOP_REDIS_URL can't be used"),
        ("redis_url", "redis://h:port/0", "TROOP_REDIS_URL can't be used"),
    ],
)
async def test_addresses_that_nothing_can_have_refuse_the_start(
    github: GitHubServer, tmp_path: Path, variable: str, url: str, words: str
) -> None:
    """Of `troop work`, too, which would wait for the model's endpoint first."""
    settings = ours(github, **{variable: url.format(folder=tmp_path)})
    with pytest.raises(SettingsError, match=re.escape(words)):
        start_refused(await examine(settings, works=False))


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("database_url", "sqlite:///{folder}/key.pem", "key.pem can't be used: file is not a database"),
        ("redis_url", "unix://{folder}/none.sock", "Redis does not answer"),
        ("redis_url", "rediss://:pw@127.0.0.1:9/0", "Redis does not answer"),
    ],
)
async def test_addresses_where_nothing_answers(
    github: GitHubServer, tmp_path: Path, variable: str, url: str, words: str
) -> None:
    (tmp_path / "key.pem").write_text(github.private_key)
    findings = await examine(ours(github, **{variable: url.format(folder=tmp_path)}), works=False)
    (found,) = (one for one in findings if one.name == variable.removesuffix("_url"))
    assert words in found.words
    assert not found.fatal


async def test_a_server_that_does_not_work_needs_no_docker_and_no_model(github: GitHubServer) -> None:
    settings = ours(github, main=ModelSettings(base_url="http://127.0.0.1:9/v1"), private_key=SecretStr(""))
    assert await missing(settings, works=False) == {}


@pytest.mark.parametrize("pattern", ["octo", "octo/", "/lib", "https://github.com/octo/lib", "octo/lib/x"])
async def test_a_list_that_matches_no_repository_refuses_the_start(github: GitHubServer, pattern: str) -> None:
    settings = ours(github, repositories=("octo-org/*", pattern))
    for works in (True, False):
        assert pattern in (await missing(settings, works=works))["repositories"]
    with pytest.raises(SettingsError, match="TROOP_REPOSITORIES"):
        start_refused(await examine(settings, works=False))


async def test_git_and_the_work_folder(github: GitHubServer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "file").touch()
    found = await missing(ours(github, work_dir=elsewhere / "file" / "work"))
    assert "is not a folder" in found["work folder"]
    assert "TROOP_WORK_DIR" in found["work folder"]
    assert "work folder" not in await missing(ours(github, work_dir=elsewhere / "not" / "yet"))
    monkeypatch.setenv("PATH", str(elsewhere))
    assert "install git" in (await missing(ours(github)))["git"]


async def test_a_web_whose_key_is_with_the_worker_alone_starts(github: GitHubServer, elsewhere: Path) -> None:
    settings = ours(github, private_key=SecretStr(""), private_key_file=elsewhere / "not-mounted-here.pem")
    assert await missing(settings, works=False) == {}
    assert "is not there" in (await missing(settings))["GitHub"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"private_key": SecretStr("garbage")}, "TROOP_PRIVATE_KEY: the text is not a private key"),
        ({"private_key": SecretStr(make_key()[0])}, "do not belong together"),
        ({"app_id": 99}, "knows no App 99"),
    ],
    ids=["garbage", "of another App", "id"],
)
@pytest.mark.parametrize("start", [run_server, run_worker], ids=["serve", "work"])
async def test_a_server_does_not_start_with_credentials_that_can_not_work(
    github: GitHubServer, start: Any, change: dict[str, Any], why: str
) -> None:
    redis = {"redis_url": "redis://127.0.0.1:9/0"} if start is run_worker else {}
    with pytest.raises(SettingsError, match=why):
        await start(ours(github, **change, **redis))


async def test_a_server_does_not_start_with_a_misspelt_variable(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROOP_SANDBOX_IMAG", "x")
    with pytest.raises(SettingsError, match=r"TROOP_SANDBOX_IMAG is no setting; did you mean TROOP_SANDBOX_IMAGE\?"):
        await run_server(ours(github))


def test_an_outage_is_logged_and_refuses_no_start(caplog: pytest.LogCaptureFixture) -> None:
    start_refused([Finding(name="redis", level="missing", detail="away", hint="start it")])
    assert "not ready: redis: away; start it" in caplog.text


async def test_findings_are_kept_for_a_while() -> None:
    asked: list[str] = []
    now = 0.0

    async def check(name: str) -> list[Finding]:
        asked.append(name)
        return [Finding(name=name, level="ok", detail="")]

    readiness = Readiness({name: lambda n=name: check(n) for name in ("redis", "GitHub")}, clock=lambda: now)  # type: ignore[misc]
    await readiness.findings()
    await readiness.findings()
    assert asked == ["redis", "GitHub"]
    now = FRESH
    assert [one.name for one in await readiness.findings()] == ["redis", "GitHub"]
    assert asked == ["redis", "GitHub", "redis"]
    now = FRESH_GITHUB
    await readiness.findings()
    assert asked[3:] == ["redis", "GitHub"]


async def test_a_check_that_fails_is_a_finding() -> None:
    async def broken() -> list[Finding]:
        raise RuntimeError("a bug")

    [found] = await Readiness({"redis": broken}).findings()
    assert (found.name, found.level) == ("redis", "missing")


# -- /ready ------------------------------------------------------------------------------------------------------


class Nowhere(Dispatcher):
    async def enqueue(self, job_id: str) -> None:
        """Nobody works."""

    async def run(self) -> None:
        """Nobody works."""

    async def close(self) -> None:
        """Nothing is open."""


def app_of(settings: Settings, store: Store) -> FastAPI:
    return create_app(settings, store, Nowhere(), readiness=Readiness(checks(settings, works=True)))


TOKEN = "the-owners-own-token"


async def ask(app: FastAPI, path: str, headers: Mapping[str, str] = {}) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_ready_says_what_is_missing_to_who_shows_the_token(github: GitHubServer, store: Store, path: str) -> None:
    settings = ours(
        github, redis_url="redis://127.0.0.1:9/0", private_key=SecretStr("garbage"), admin_token=SecretStr(TOKEN)
    )
    app = app_of(settings, store)
    answer = await ask(app, path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 503
    assert "TROOP_REDIS_URL" in answer.json()["redis"]
    assert "is not a private key" in answer.json()["GitHub"]
    assert "install Docker" in answer.json()["docker"]
    other = await ask(app, path)
    assert other.status_code == 503
    assert {other.json()[name] for name in ("redis", "GitHub", "docker")} == {"missing"}
    assert (await ask(app, "/livez")).status_code == (await ask(app, "/health")).status_code == 200


# -- the doctor --------------------------------------------------------------------------------------------------


def test_the_doctor_says_the_same(github: GitHubServer, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    key = elsewhere / "app.pem"
    key.write_text("garbage")
    key.chmod(0o644)
    environment = {
        "TROOP_GITHUB_URL": github.api_url,
        "TROOP_APP_ID": str(github.app_id),
        "TROOP_PRIVATE_KEY_FILE": str(key),
        "TROOP_WEBHOK_SECRET": "x",
    }
    done = CliRunner(env=environment).invoke(cli, ["doctor", "--fix"])
    assert done.exit_code == 1
    for words in (
        "MISSING   GitHub           TROOP_PRIVATE_KEY_FILE: the text is not a private key",
        "did you mean TROOP_WEBHOOK_SECRET?",
        "MISSING   webhook          there is no secret",
        "MISSING   docker",
        "fixed     secret file",
        "not fixed sandbox image",
    ):
        assert words in done.output, done.output
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_text(github.private_key)
    done = CliRunner(env=environment).invoke(cli, ["doctor"])
    assert f"ok        GitHub           App {github.world.app.slug} ({github.app_id})" in done.output
