"""The operator's settings: read from where they may stand, refused in words, and none that nobody reads."""

import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from bot.errors import SettingsError
from bot.settings import ModelSettings, Settings, read_settings, unknown_variables

BOT = Path(__file__).parents[2] / "bot"
PARTS = ("main", "relevance", "solver", "sandbox")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fields() -> set[str]:
    found = set(Settings.model_fields)
    for part in PARTS:
        kind = Settings.model_fields[part].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        found |= set(kind.model_fields)
    return found


def methods_of_settings() -> list[tuple[str, str]]:
    found = inspect.getmembers(Settings, inspect.isfunction)
    return [(name, inspect.getsource(method)) for name, method in found if method.__module__ == Settings.__module__]


@pytest.mark.parametrize("name", sorted(fields()))
def test_every_setting_is_read_somewhere(name: str) -> None:
    sources = [path for path in BOT.rglob("*.py") if "capuchin" not in path.parts and path.name != "settings.py"]
    texts = [path.read_text() for path in sources]
    # Its own methods read some, and are read themselves.
    methods = [
        method for called, method in methods_of_settings() if any(f"ettings.{called}(" in text for text in texts)
    ]
    outside = any(re.search(rf"(settings|main|relevance|solver|sandbox)\.{name}\b", text) for text in texts)
    within = any(re.search(rf"self\.{name}\b", text) for text in methods)
    assert outside or within, f"nobody reads {name}"


def test_the_environment_comes_before_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".env").write_text("TROOP_PORT=81\nTROOP_APP_ID=7\nTROOP_SANDBOX_MEMORY=512m\n")
    monkeypatch.setenv("TROOP_PORT", "82")
    settings = read_settings()
    assert (settings.port, settings.app_id, settings.sandbox.memory) == (82, 7, 512 << 20)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("2g", 2 << 30), ("512m", 512 << 20), ("1KB", 1024), ("17", 17), ("5b", 5), ("1 GiB", 1 << 30), ("1T", 1 << 40)],
)
def test_sizes_have_dockers_units(text: str, bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SANDBOX_MEMORY", text)
    assert read_settings().sandbox.memory == bytes_


def test_lists_are_words_and_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_REPOSITORIES", "octo/*, ann/lib")
    monkeypatch.setenv("TROOP_SANDBOX_IMAGES_ALLOWED", '["ruby:3.3"]')
    monkeypatch.setenv("TROOP_REPOSITORY_MAY_SET", "test context")
    monkeypatch.setenv("TROOP_APP_ID", "")
    settings = read_settings()
    assert settings.repositories == ("octo/*", "ann/lib")
    assert settings.sandbox.images_allowed == ("ruby:3.3",)
    assert settings.repository_may_set == ("test", "context")
    assert settings.app_id == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TROOP_PORT", "eighty"),
        ("TROOP_APP_ID", "-1"),
        ("TROOP_SANDBOX_KIND", "podman"),
        ("TROOP_SANDBOX_MEMORY", "much"),
        ("TROOP_SANDBOX_IMAGES_ALLOWED", "[ruby"),
        ("TROOP_SOLVER_OWN_TESTS_CANDIDATES", "0"),
        ("TROOP_SOLVER_TEMPERATURE", "3"),
        ("TROOP_REPOSITORY_MAY_SET", "test,images"),
        ("TROOP_GITHUB_URL", "api.github.com"),
        ("TROOP_KEEP_DAYS", "1"),
    ],
)
def test_what_can_not_be_used_is_named_with_its_mend(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: .* correct it in the environment or .env$") as error:
        read_settings()
    assert "\n" not in str(error.value)


def test_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_MAIN", "sk-of-somebody")
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert "sk-of-somebody" not in str(error.value)


def test_a_file_that_is_no_text(elsewhere: Path) -> None:
    (elsewhere / ".env").write_bytes(b"TROOP_PORT=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env"):
        read_settings()


def test_variables_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_variables() == ()
    for name in ("TROOP_PORT", "TROOP_SANDBOX_KIND", "TROOP_SANDBOX_IMAG", "TROOP_TOKEN_BUDGET"):
        monkeypatch.setenv(name, "1")
    assert unknown_variables() == ("TROOP_SANDBOX_IMAG", "TROOP_TOKEN_BUDGET")


# -- who we are, and what must not be told -----------------------------------------------------------------------


def test_our_own_login() -> None:
    settings = Settings(_env_file=None, app_slug="ours", token_login="machine")
    assert [settings.own_login(as_app=True), settings.own_login(as_app=False)] == ["ours[bot]", "machine"]
    assert Settings(_env_file=None).own_login(as_app=False) == ""


def test_every_secret_is_known(tmp_path: Path) -> None:
    key = tmp_path / "app.pem"
    key.write_text("-----BEGIN KEY-----\nMIIE\n-----END KEY-----\n")
    settings = Settings(
        _env_file=None,
        private_key="the private key",
        private_key_file=key,
        token="the token",
        webhook_secret="the secret",
        webhook_secret_previous="the old secret",
        main=ModelSettings(api_key=SecretStr("the main key")),
        relevance=ModelSettings(api_key=SecretStr("the other key"), base_url="http://u:of%20a%20model@127.0.0.1/v1"),
        database_url="postgresql://troop:of-the-database@127.0.0.1/troop",
        redis_url="redis://:of-the-queue@127.0.0.1",
    )
    told = ("the private key", "the token", "the secret", "the old secret", "the main key", "the other key")
    assert settings.secrets() == (*told, key.read_text(), "of a model", "of-the-database", "of-the-queue")


def test_words_and_repetitions_are_no_secrets() -> None:
    assert Settings(
        _env_file=None, token="short", webhook_secret="same-same", webhook_secret_previous="same-same"
    ).secrets() == ("same-same",)
