"""Credentials wherever they are set, and keys wherever a model writes them: attacks 20 and 35."""

import base64
import json
import secrets as random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.dispatch import open_dispatcher
from bot.errors import EndpointError, Refused, SettingsError, StoreUnavailable
from bot.evaluation.samples import About, Sample, SampleFile
from bot.lifecycle import RunState
from bot.patch.policy import check_patch
from bot.preflight.services import database, queue
from bot.records import Cause, Feedback, Remark, Revision
from bot.sanitize import REDACTED, redact
from bot.sanitize.redact import redact_known, redact_report
from bot.settings import Settings, read_settings
from bot.settings.credentials import credentials_in, masked_address
from bot.settings.sources import origins
from bot.store import Store
from bot.store.backup import write
from bot.webhook.decide import decide
from bot.webhook.decisions import ReceiveCommand, StartRun
from bot.webhook.rules import Rules
from bot.worker.callbacks import Callbacks, Executed, Finished
from bot.worker.worker import Worker
from tests.bot.queueing import again, queue_command, queue_run
from tests.bot.sample import patch
from tests.bot.webhook.deliveries import delivery
from tests.bot.worker.working import Fake, failing, info
from tests.growth import grows_evenly

PASSWORD = "hunter2secretpw"
# As people write them, who forget that some characters have to be %XX.
WRITTEN = [
    f"user:{PASSWORD}@h.example:1234",
    f":{PASSWORD}@h.example:1234",
    f"user:{PASSWORD}/x@h.example:1234",
    f"user:{PASSWORD}#x@h.example:1234",
    f"user:{PASSWORD}?x@h.example:1234",
    f"user:a@{PASSWORD}@h.example:1234",
    f"user:[{PASSWORD}@h.example:1234",
    f"user:{PASSWORD}]@h.example",
    "user:%68unter2secretpw@h.example:1234",
    f"h.example:1234/x?password={PASSWORD}",
    f"h.example:1234/x?a=b&api_key={PASSWORD}&c=d",
]
ADDRESSES = {
    "TROOP_MAIN_BASE_URL": "http://",
    "TROOP_RELEVANCE_BASE_URL": "https://",
    "TROOP_REDIS_URL": "redis://",
    "TROOP_DATABASE_URL": "postgresql://",
    "TROOP_GITHUB_URL": "https://",
    "TROOP_GITHUB_WEB_URL": "https://",
    "TROOP_PUBLIC_URL": "https://",
    "TROOP_PAGES_URL": "http://",
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path) -> pytest.MonkeyPatch:
    """No variables but the test's."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def what_is_said(name: str) -> str:
    """All that is printed or logged of these settings, until something works."""
    try:
        settings = read_settings()
    except SettingsError as error:
        return str(error)
    said = [origin.value for origin in origins(settings) if origin.variable.name == name]
    said.append(redact(f"a log with {PASSWORD}", settings.secrets()))
    if name == "TROOP_REDIS_URL":
        try:
            dispatcher = open_dispatcher(settings, Fake().execute_command)
        except SettingsError as error:
            said.append(str(error))
        else:
            await dispatcher.close()
            said += [finding.words for finding in await queue(settings)]
    if name == "TROOP_DATABASE_URL":
        said += [finding.words for finding in await database(settings)]
    return "\n".join(said)


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("written", WRITTEN)
async def test_attack_35_no_password_of_an_address_is_said(alone: pytest.MonkeyPatch, name: str, written: str):
    alone.setenv("TROOP_TOKEN", "a token of the tests")
    alone.setenv(name, ADDRESSES[name] + written)
    alone.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no such host")))
    said = await what_is_said(name)
    assert PASSWORD not in said
    assert "unter2secretpw" not in said


@pytest.mark.parametrize(
    ("address", "secrets", "shown"),
    [
        ("postgresql://troop@h/db", (), "postgresql://troop@h/db"),
        ("https://atokenofours@h/v1", ("atokenofours",), "https://***@h/v1"),
        ("h.example:80", (), "h.example:80"),
        ("unix://user:password@/run/redis.sock?db=1", ("password",), "unix://user:***@/run/redis.sock?db=1"),
        ("redis://h/0?password=pass%2Fword", ("pass%2Fword", "pass/word"), "redis://h/0?password=***"),
        ("https://h/v1?version=2026&page_size=5", (), "https://h/v1?version=2026&page_size=5"),
    ],
)
def test_the_credentials_of_an_address(address: str, secrets: tuple[str, ...], shown: str):
    assert credentials_in(address)[: len(secrets)] == secrets
    assert masked_address(address) == shown


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_attack_35_a_proxys_password_is_a_secret(alone: pytest.MonkeyPatch, name: str):
    alone.setenv(name, f"http://user:{PASSWORD}@proxy.example:3128")
    assert PASSWORD in read_settings().secrets()


def test_attack_35_what_builds_get_is_a_secret(alone: pytest.MonkeyPatch):
    words = [f"PIP_INDEX_URL=https://u:{PASSWORD}@pypi.example/simple", "NPM_TOKEN=a-token-of-npm", "CI=true"]
    alone.setenv("TROOP_SANDBOX_BUILD_ENVIRONMENT", " ".join(words))
    settings = read_settings()
    assert {PASSWORD, "a-token-of-npm"} <= set(settings.secrets())
    [shown] = [one.value for one in origins(settings) if one.variable.name == "TROOP_SANDBOX_BUILD_ENVIRONMENT"]
    assert shown == "PIP_INDEX_URL=*** NPM_TOKEN=*** CI=true"


LONG = "abcdefghijABCDEFGHIJ0123456789abcdefghij"
HEX = "0123456789abcdef" * 4
TOKENS = [
    *(f"gh{kind}_{LONG}" for kind in "pousr"),
    f"github_pat_{LONG}",
    *(f"{kind}_{mode}_{LONG}" for kind in ("sk", "rk") for mode in ("live", "test")),
    *(f"sk-{kind}{LONG}" for kind in ("", "ant-api03-", "proj-", "or-v1-")),
    *(
        f"{kind}{LONG}"
        for kind in ("glpat-", "gldt-", "glrt-", "hf_", "npm_", "gsk_", "xai-", "r8_", "lin_api_", "sbp_")
    ),
    *(
        f"{kind}{LONG}"
        for kind in ("nvapi-", "dckr_pat_", "figd_", "glsa_", "sntrys_", "hvs.", "pypi-", "ya29.", "ATATT3")
    ),
    *(f"{kind}{HEX}" for kind in ("shpat_", "dop_v1_", "rubygems_", "dapi")),
    "xoxb-1234567890-abcdefghij",
    "xapp-1-A0123456789-abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    f"AIza{LONG[:35]}",
    f"AGE-SECRET-KEY-1{LONG.upper()}0123",
    f"SG.{LONG[:22]}.{LONG}",
    f"eyJ{LONG}.eyJ{LONG}.{LONG}",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nabc\n-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN PRIVATE KEY-----\ncut off",
    "user:pass@",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["key={}", "`{}`", '"{}",', "x\n{}\ny", "({})"])
def test_attack_20_what_has_the_form_of_a_token_is_redacted(token: str, around: str):
    text = around.format(f"https://{token}h.example" if token.endswith("@") else token)
    assert REDACTED in redact(text, ())
    assert token.strip("@") not in redact(text, ())


RANDOM = "u8jzPde0IgxLd6GnQ4vT2wYb"
NAMED = [
    "AWS_SECRET_ACCESS_KEY={}",
    '"client_secret": "{}"',
    "export MY_TOKEN='{}'",
    "password: {}",
    "--api-key {}",
    "jdbc:postgresql://h/db?user=u&password={}",
    "//registry.example/:_authToken={}",
    "AccountKey={};EndpointSuffix=x",
    "Authorization: Basic {}",
    "authorization: Bearer {}",
    "machine h login u password {}",
    "https://{}@h.example/o/r.git",
    "pip install --index-url https://{}@h.example/simple",
    *(f"{prefix}{{}}" for prefix in ("whsec_", "GOCSPX-", "pplx-", "ntn_", "nfp_", "tvly-", "lsv2_pt_", "sb_secret_")),
    *(f"{prefix}{{}}" for prefix in ("phx_", "rpa_", "jina_", "CFPAT-", "vcp_", "sgp_v1_", "new_kind_of_2027_")),
    "https://hooks.slack.com/services/T00000000/B00000000/{}",
    "https://discord.com/api/webhooks/123456789012345678/{}",
]


@pytest.mark.parametrize("form", NAMED)
def test_attack_20_what_is_random_and_named_or_marked_as_a_secret_is_redacted(form: str):
    text = redact(f"x\n{form.format(RANDOM)}\ny", ())
    assert REDACTED in text
    assert RANDOM not in text


@pytest.mark.parametrize("name", ["DD_API_KEY", "CODECOV_TOKEN", "wandb_api_key", "session"])
@pytest.mark.parametrize("value", [HEX, "7f1e9c1e-1c1f-41ee-be56-0242ac120002"])
def test_attack_20_a_number_that_is_named_a_secret_is_redacted(name: str, value: str):
    assert redact(f"{name}={value}", ()) == f"{name}={REDACTED}"


def test_redaction_takes_linear_time():
    for part in ("token=", "aA0", "token: aA0", "//aA0", "a-", "a_aA0"):
        assert grows_evenly(lambda text: redact(text, ()), part, 200_000)


@pytest.mark.parametrize(
    "text",
    [
        f"sha512-{RANDOM}",
        "author: xX9dR4gOnXxY7",
        f"authored={HEX[:40]}",
        f"open http://127.0.0.1:8000/setup?token={HEX} to begin",
        f"the digest {HEX}",
        "run 7f1e9c1e-1c1f-41ee-be56-0242ac120002",
        "config = torchao.Float8DynamicActivationInt8WeightConfig(x)",
        "token = GithubIntegrationAuthOfApp(app.id)",
        "token = self.tokens_of_the_tests[0]",
        "class Test2HTTPServerReturnsXMLOrJSON: ...",
        "test_password_validator_rejects_1234567890",
        "token: the_name_of_a_variable_2",
        "task-force-of-the-day-and-night",
        "hf_home = 1",
        "npm_config_registry",
        "https://h.example/a:b/c",
        "the dapi of SG.",
        "risk-averse",
    ],
)
def test_what_only_begins_like_a_token_stays(text: str):
    assert redact(text, ()) == text


@pytest.mark.parametrize("secret", [f"ghp_{LONG}", f"sk-{LONG}", RANDOM, "hunter2-hunter2"])
@pytest.mark.parametrize("form", ["{}", "TOKEN={}", "https://u:{}@h.example"])
def test_attack_20_no_patch_with_a_secret_of_the_server_is_published_or_kept(secret: str, form: str):
    """Whatever `redact` makes of it without knowing the secret: that was taken for none, and published."""
    text = f"x = '{form.format(secret)}'\n"
    leaky = patch({"a.py": text})
    with pytest.raises(Refused, match="holds a secret"):
        check_patch(leaky, (secret,))
    with pytest.raises(Refused, match="holds a secret"):
        check_patch(patch({f"{secret}.py": "x\n"}), (secret,))
    kept = json.dumps({"patch": {"diff": leaky.diff, "text": text}})
    assert secret not in redact_report(kept, (secret,))
    assert redact_report(kept, ("another-secret",)) == kept
    assert secret not in redact_known(text, (secret,))
    assert check_patch(leaky, ("another-secret",)) == ()


# -- what is stored of a run


def rows(store: Store) -> str:
    """All that a backup has, as text."""
    import gzip
    import io

    file = io.BytesIO()
    write(store.database, file)
    return gzip.decompress(file.getvalue()).decode()


KEY = random.token_urlsafe(24)
SAID = {
    "as it is": KEY,
    "spread": " ".join(KEY),
    "base64": base64.b64encode(f"x{KEY}y".encode()).decode(),
    "of a form": f"sk-{LONG}",
}


@pytest.mark.parametrize("form", SAID)
@pytest.mark.parametrize("where", ["note", "error", "progress", "command", "command's error"])
async def test_attack_35_a_key_in_a_models_or_an_endpoints_words_is_not_stored(store: Store, where: str, form: str):
    fake, said = Fake(), SAID[form]

    async def run(claimed, journal, progress, advance) -> Finished:
        await journal.put("model/x", f'{{"text": "{said}"}}')
        if where == "progress":
            progress.update(RunState.CHECKOUT, 0, 0, f"it says {said}")
            store.renew(claimed.id, claimed.attempt, 60, StoredText.of(progress))
        return Finished(state=RunState.FAILED, note=f"the model says {said}")

    async def execute_command(_command) -> Executed:
        return Executed(note=f"help: {said}")

    error = failing(EndpointError(f"the endpoint answered 401: no such key {said}"))
    fake.run = error if where == "error" else run
    fake.command = error if where == "command's error" else execute_command
    settings = Settings(_env_file=None, token=KEY)
    from bot.worker.executor import Service

    service = Service(settings, store)
    callbacks = Callbacks(
        fake.execute, fake.execute_command, fake.announce, secrets=settings.secrets(), words=service.words
    )
    worker = Worker(store, callbacks, lease_seconds=60)
    if where.startswith("command"):
        await worker.handle(f"command:{queue_command(store)}")
    else:
        run_id = queue_run(store)
        await worker.handle(f"run:{run_id}:0")
        assert REDACTED in info(store, run_id).reason
        assert all(said not in reason for _, reason in fake.told)
    assert said not in rows(store)


@pytest.mark.parametrize("form", SAID)
@pytest.mark.parametrize("body", ["/troop retry use {} for it", "/troop frobnicate {}", "@troop, it is {}"])
def test_attack_35_a_key_in_what_people_write_to_us_is_not_stored(tmp_path: Path, body: str, form: str):
    store = Store.open(f"sqlite:///{tmp_path / 'troop.sqlite3'}", secrets=(KEY,))
    rules = Rules(app_id=12345, own_login="troop[bot]")
    received = decide(delivery("issue_comment.created", comment__body=body.format(SAID[form])), rules)
    assert isinstance(received, ReceiveCommand | StartRun)
    assert SAID[form] in str(received)
    assert store.accept("guid", "issue_comment", "created", received).job_id
    assert SAID[form] not in rows(store)
    store.close()


@pytest.mark.parametrize("form", SAID)
def test_attack_35_a_key_in_a_review_is_not_stored(tmp_path: Path, form: str):
    store = Store.open(f"sqlite:///{tmp_path / 'troop.sqlite3'}", secrets=(KEY,))
    run_id = queue_run(store)
    said = Feedback(author="ann", body=f"take {SAID[form]}", hunk=SAID[form])
    remark = Remark(thread=1, feedback=said)
    asked = Revision(
        pull=2, branch="troop/x", cause=Cause.REVIEW, sources=(1,), remarks=(remark,), at=datetime.now(UTC)
    )
    request = again(feedback=(said,), revision=asked)
    assert store.revise(run_id, request, most_a_day=9) is None, "it waits"
    assert SAID[form] not in rows(store)
    store.request_stop(run_id, "")
    assert store.revise(run_id, request, most_a_day=9)
    assert SAID[form] not in rows(store)
    store.close()


class StoredText:
    @staticmethod
    def of(progress) -> str:
        return progress.text or ""


async def test_attack_35_a_databases_error_has_no_password(tmp_path):
    address = f"postgresql://u:a@{PASSWORD}@127.0.0.1:1/db"
    with pytest.raises(StoreUnavailable) as refused:
        Store.open(address, quota_runs_per_hour=3, max_crashes=3)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("form", ["as it is", "spread", "base64"])
def test_attack_35_a_key_in_a_sample_of_an_evaluation_is_not_written(tmp_path: Path, form: str):
    about = About(
        tasks="t", kind="functions", number=1, digest="", model="m", temperature=None, seed=0, max_tokens=None
    )
    example = f"ghp_{LONG}"  # a task's own
    with SampleFile(tmp_path, about, ["a"], secrets=(KEY,)) as file:
        file.add(Sample(task="a", sample=0, solves=True, text=f"x = '{SAID[form]}'", status=f"401: {SAID[form]}"))
        file.add(Sample(task="a", sample=1, solves=True, text=f"x = '{example}'"))
    written = (tmp_path / "samples.jsonl").read_text()
    assert SAID[form] not in written
    assert example in written
