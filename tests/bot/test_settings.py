"""The operator's settings: read from where they may stand, refused in words, and none that nobody reads."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from bot.errors import SettingsError
from bot.settings import (
    ModelSettings,
    SandboxSettings,
    Settings,
    SolverSettings,
    checked,
    misspelt,
    read_settings,
    unknown_variables,
)
from bot.settings.files import SECRETS
from bot.settings.reference import markdown
from bot.settings.sources import OF_COMPOSE, OF_ENGINE, origins, variables

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
    found = [member for kind in (Settings, SolverSettings) for member in inspect.getmembers(kind, inspect.isfunction)]
    return [(name, inspect.getsource(method)) for name, method in found if method.__module__ == Settings.__module__]


@pytest.mark.parametrize("name", sorted(fields()))
def test_every_setting_is_read_somewhere(name: str) -> None:
    sources = [path for path in BOT.rglob("*.py") if "capuchin" not in path.parts and "settings" not in path.parts]
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


def test_variables_of_the_engine_and_of_compose_are_known() -> None:
    root = BOT.parent
    sources = [path for part in ("engine", "kernels") for path in (root / part).rglob("*.py")]
    of_engine = {name for path in sources for name in re.findall(r'"TROOP_([A-Z_]+)"', path.read_text())}
    of_both = {name for name in of_engine if f"TROOP_{name}" in {variable.name for variable in variables()}}
    assert of_engine - of_both == set(OF_ENGINE)
    compose = "".join((root / "deploy" / name).read_text() for name in ("compose.yaml", "env.example"))
    used = {f"TROOP_{name}" for name in re.findall(r"TROOP_([A-Z_]+)", compose)}
    assert not used - {variable.name for variable in variables()} - {f"TROOP_{name}" for name in OF_COMPOSE}
    assert {f"TROOP_{name}" for name in OF_COMPOSE} <= used


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
        client_secret="the client's secret",
        admin_token="the admin's token",
        main=ModelSettings(api_key=SecretStr("the main key")),
        relevance=ModelSettings(api_key=SecretStr("the other key"), base_url="http://u:of%20a%20model@127.0.0.1/v1"),
        database_url="postgresql://troop:of-the-database@127.0.0.1/troop",
        redis_url="redis://:of-the-queue@127.0.0.1",
    )
    told = ("the private key", "the token", "the secret", "the old secret", "the client's secret", "the admin's token")
    told += ("the main key", "the other key")
    told += (key.read_text(), "of a model", "of%20a%20model", "of-the-database", "of-the-queue")
    assert set(settings.secrets()) == set(told)


def test_words_and_repetitions_are_no_secrets() -> None:
    assert Settings(
        _env_file=None, token="short", webhook_secret="same-same", webhook_secret_previous="same-same"
    ).secrets() == ("same-same",)


# -- secrets out of files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_each_secret_may_be_in_a_file(name: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = next(one for one in variables() if one.name == f"TROOP_{name}".upper())
    (elsewhere / "secret").write_bytes(b"\xef\xbb\xbfsqlite:///of-a-file\r\n")
    monkeypatch.setenv(f"{variable.name}_FILE", str(elsewhere / "secret"))
    found = variable.value(read_settings())
    assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == "sqlite:///of-a-file"
    assert unknown_variables() == ()
    [origin] = [one for one in origins(read_settings()) if one.variable == variable]
    assert origin.source.startswith(str(elsewhere / "secret"))
    monkeypatch.setenv(variable.name, "of the environment")
    with pytest.raises(SettingsError, match=f"{variable.name} and {variable.name}_FILE are both set"):
        read_settings()


def test_every_secret_has_a_file() -> None:
    secret = {"_".join(one.place) for one in variables() if one.field.annotation is SecretStr}
    assert secret - {"private_key"} <= set(SECRETS)  # TROOP_PRIVATE_KEY_FILE is a setting of its own


def test_files_that_can_not_be_used_are_said(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "empty").write_text("\n")
    (elsewhere / "binary").write_bytes(b"\xff")
    (elsewhere / "large").write_bytes(b"x" * (2 << 20))
    for name, why in (
        ("empty", "empty"),
        ("binary", "text"),
        ("none", "not there"),
        ("", "folder"),
        ("large", "large"),
    ):
        monkeypatch.setenv("TROOP_TOKEN_FILE", str(elsewhere / name))
        with pytest.raises(SettingsError, match=f"^TROOP_TOKEN_FILE: .*{why}"):
            read_settings()


def test_the_folder_of_secrets_comes_last(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = elsewhere / "var" / "secrets"
    folder.mkdir(parents=True)
    (folder / "troop_app_id").write_text("7\n")
    (folder / "TROOP_WEBHOOK_SECRET").write_text("of the folder")
    (folder / "README").write_bytes(b"\xff")
    settings = read_settings()
    assert (settings.app_id, settings.webhook_secret.get_secret_value()) == (7, "of the folder")
    (elsewhere / ".env").write_text("TROOP_APP_ID=8\n")
    assert read_settings().app_id == 8
    (folder / "troop_app_id").rename(elsewhere / "troop_app_id")
    monkeypatch.setenv("TROOP_SECRETS_DIR", str(elsewhere))
    (elsewhere / ".env").unlink()
    settings = read_settings()
    assert (settings.app_id, settings.webhook_secret.get_secret_value()) == (7, "")
    by_name = {one.variable.name: one.source for one in origins(settings)}
    assert by_name["TROOP_APP_ID"] == str(elsewhere)
    assert by_name["TROOP_PORT"] == "default"


# -- where settings come from ------------------------------------------------------------------------------------


def test_misspelt_variables_are_told_with_what_may_be_meant(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".env").write_text("TROOP_WEBHOK_SECRET=x\nTROOP_IMAGE=troop\nDOCKER_GID=1\nTROP_APP_ID=1\n")
    monkeypatch.setenv("TROOP_SANDBOX_IMAG", "x")
    monkeypatch.setenv("troop_redis_ur", "x")
    monkeypatch.setenv("TROOP_XYZZY_PLUGH", "x")
    for given in ("TROOP_SERVICE_HOST", "TROOP_PORT_80_TCP_ADDR", "TROOP_WEB_SERVICE_PORT_HTTP"):  # by Kubernetes
        monkeypatch.setenv(given, "x")
    assert misspelt() == (
        "TROOP_REDIS_UR is no setting; did you mean TROOP_REDIS_URL?",
        "TROOP_SANDBOX_IMAG is no setting; did you mean TROOP_SANDBOX_IMAGE?",
        "TROOP_WEBHOK_SECRET is no setting; did you mean TROOP_WEBHOOK_SECRET?",
        "TROOP_XYZZY_PLUGH is no setting; remove it",
        "TROP_APP_ID is no setting; did you mean TROOP_APP_ID?",
    )


def test_a_misspelt_file_of_the_secrets_folder_is_told(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = elsewhere / "secrets"
    folder.mkdir()
    for name in ("troop_webhok_secret", "TROOP_LABEL", "troop_token.old", "README"):
        (folder / name).write_text("x\r\n")
    monkeypatch.setenv("TROOP_SECRETS_DIR", str(folder))
    assert misspelt() == ("TROOP_WEBHOK_SECRET is no setting; did you mean TROOP_WEBHOOK_SECRET?",)
    assert read_settings().label == "x"
    (elsewhere / "file").write_text("x")
    monkeypatch.setenv("TROOP_SECRETS_DIR", str(elsewhere / "file"))
    with pytest.raises(SettingsError, match="file is a file, not a folder"):
        read_settings()


def test_lines_of_a_dotenv_that_are_no_assignment_are_told(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text(
        "TROOP_LABEL=x\n# a comment\n\nset TROOP_PORT 1\nTROOP_TOKEN='a-secret\nTROOP_PORT=1\n"
    )
    told = misspelt()
    assert [words.partition(" of ")[0] for words in told] == ["line 4", "line 5"]
    assert "NAME=VALUE" in told[0]
    assert "a-secret" not in "".join(told)


@pytest.mark.parametrize("variable", ["TROOP_GITHUB_URL", "TROOP_PUBLIC_URL", "TROOP_PAGES_URL"])
@pytest.mark.parametrize("text", ["troop.example.com", "ftp://x", "https:/x", "https://a b"])
def test_what_is_no_web_address_is_told_in_words(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=f"^{variable}: is not a web address, which begins with https://"):
        read_settings()


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_dotenv_that_is_not_utf_8_is_named(elsewhere: Path, encoding: str) -> None:
    (elsewhere / ".env").write_bytes("TROOP_LABEL=für\r\n".encode(encoding))
    with pytest.raises(SettingsError, match=r"\.env is not text in UTF-8"):
        read_settings()


def test_a_dotenv_with_line_ends_and_a_mark_of_windows(elsewhere: Path) -> None:
    (elsewhere / ".env").write_bytes("\ufeffTROOP_LABEL=fix me\r\nexport TROOP_PORT=1234\r\n".encode())
    assert (read_settings().label, read_settings().port) == ("fix me", 1234)


@pytest.mark.parametrize(
    "name",
    [
        "python:3.11-slim",
        "ghcr.io/octo/tests:1",
        "localhost:5000/a/b_c__d-e",
        "x@sha256:" + "0a" * 32,
        "Host.example/x:T",
    ],
)
def test_names_of_images(name: str) -> None:
    assert SandboxSettings(image=name).image == name


@pytest.mark.parametrize(
    "name", ["Python:3.11", "python:", "a b", "python@sha256:zz", "python:3.11:4", "-x", "a//b", "https://h/x", "x\n"]
)
def test_what_is_no_image_is_told_before_docker_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SANDBOX_IMAGE", name)
    with pytest.raises(SettingsError, match=r"TROOP_SANDBOX_IMAGE: .* is not the name of an image"):
        read_settings()


def test_the_source_of_each_setting_and_no_secret(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".env").write_text("TROOP_TOKEN=a-secret-of-somebody\nTROOP_GITHUB_URL=https://ghes.example/api/v3\n")
    monkeypatch.setenv("TROOP_DATABASE_URL", "postgresql://troop:hunter2@db/troop")
    found = {one.variable.name: (one.value, one.source) for one in origins(read_settings())}
    assert found["TROOP_TOKEN"] == ("(set)", ".env")
    assert found["TROOP_DATABASE_URL"] == ("postgresql://troop:***@db/troop", "environment")
    assert found["TROOP_GITHUB_WEB_URL"] == ("https://ghes.example", "derived")
    assert found["TROOP_MAIN_API_KEY"] == ("(empty)", "default")
    assert found["TROOP_SANDBOX_IMAGE"][1] == "default"
    assert not [line for line in found.values() if "hunter2" in str(line) or "a-secret" in str(line)]


def test_the_reference_is_fresh_and_complete() -> None:
    text = (BOT.parent / "docs" / "settings.md").read_text()
    assert text == markdown(), "make it anew: troop config --markdown > docs/settings.md"
    assert not [one.name for one in variables() if f"| `{one.name}`" not in text or not one.field.description]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BUILD_ALLOWED_NETWORKS", "10.0.0.1 mirror.example", "neither an IP address nor a network"),
        ("BUILD_ENVIRONMENT", "A=1 B", "'B' is not of the form NAME=VALUE"),
        ("BUILD_ENVIRONMENT", "x;y=1", "is not of the form NAME=VALUE"),
        ("BUILD_NETWORK", "closed", "guarded"),
    ],
)
def test_settings_of_builds_are_checked(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TROOP_SANDBOX_{name}", value)
    with pytest.raises(SettingsError, match=words):
        read_settings()


def test_networks_and_variables_of_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SANDBOX_BUILD_ALLOWED_NETWORKS", "10.0.0.1, 10.2.0.0/16")
    monkeypatch.setenv("TROOP_SANDBOX_BUILD_ENVIRONMENT", "PIP_INDEX_URL=https://user:password@host/simple A=")
    found = read_settings().sandbox
    assert found.build_allowed_networks == ("10.0.0.1", "10.2.0.0/16")
    assert found.build_environment == ("PIP_INDEX_URL=https://user:password@host/simple", "A=")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        (" http://10.0.0.5:8100/v1/ ", "http://10.0.0.5:8100/v1"),
        ("localhost:8100", "http://localhost:8100"),
        ("10.0.0.5:8100/v1", "http://10.0.0.5:8100/v1"),
        ("[::1]:8100/v1", "http://[::1]:8100/v1"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
        ("https://api.example.com/v1/models/", "https://api.example.com/v1"),
        ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1"),
        ("https://user:word@models.example.com", "https://user:word@models.example.com"),
    ],
)
def test_addresses_of_models_as_people_write_them(given: str, kept: str) -> None:
    assert ModelSettings(base_url=given).base_url == kept


@pytest.mark.parametrize("role", ["MAIN", "RELEVANCE"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BASE_URL", "http//10.0.0.5/v1", "is not a web address"),
        ("BASE_URL", "http:/10.0.0.5/v1", "is not a web address"),
        ("BASE_URL", "http://", "is not a web address"),
        ("BASE_URL", "ftp://10.0.0.5/v1", "is not a web address"),
        ("BASE_URL", "unix:///run/model.sock", "is not a web address"),
        ("BASE_URL", "'http://10.0.0.5/v1'", "is not a web address"),
        ("BASE_URL", "http://10.0.0.5 :8100/v1", "is not a web address"),
        ("BASE_URL", "http://10.0.0.5:99999/v1", "Port out of range"),
        ("BASE_URL", "http://[::1/v1", "is not a web address"),
        ("BASE_URL", "https://x.example.com/v1?api-version=1", "begins with ? or #"),
        ("API_KEY", "Schlüssel-für-alle", "can't be sent"),
        ("API_KEY", "“sk-quoted-by-a-text-program”", "can't be sent"),
        ("API_KEY", "two\nlines-of-a-key", "can't be sent"),
        ("API_KEY", "Bearer sk-abcdefghijkl", "set what follows that word"),
    ],
)
def test_what_no_model_can_be_asked_with_is_refused(
    monkeypatch: pytest.MonkeyPatch, role: str, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TROOP_{role}_{name}", value)
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        read_settings()
    assert str(caught.value).startswith(f"TROOP_{role}_{name}: ")
    assert "\n" not in str(caught.value)
    if name == "API_KEY":
        assert value not in str(caught.value)


def test_a_token_that_no_header_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_TOKEN", "github_pat_é")
    with pytest.raises(SettingsError, match="TROOP_TOKEN: has characters that can't be sent"):
        read_settings()


def test_a_key_that_can_not_be_read_is_told_with_why(elsewhere: Path) -> None:
    settings = Settings(
        _env_file=None, app_id=1, webhook_secret=SecretStr("x" * 20), private_key_file=elsewhere / "app.pem"
    )
    with pytest.raises(SettingsError, match=r"app\.pem is not there; correct the path"):
        checked(settings)
    (elsewhere / "app.pem").mkdir()
    with pytest.raises(SettingsError, match=r"app\.pem is a folder, not a file; Docker makes one"):
        checked(settings)
    assert checked(settings, works=False).app_id == 1


def test_a_folder_of_secrets_that_is_another_users_is_told(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    (elsewhere / "secrets").mkdir()
    monkeypatch.setenv("TROOP_SECRETS_DIR", str(elsewhere / "secrets"))
    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(
        SettingsError, match=r"secrets can't be read by user \d+ \(Permission denied\): give it the folder"
    ):
        read_settings()


@pytest.mark.parametrize("given", ["https://troop.example.com/", "https://troop.example.com/webhook"])
def test_the_public_address_is_the_servers_not_the_webhooks(given: str) -> None:
    assert Settings(_env_file=None, public_url=given).public_url == "https://troop.example.com"


@pytest.mark.parametrize(("given", "said"), [("Iv23liA1B2c3", "is the client id"), ("my-app", "is no number")])
def test_an_app_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    monkeypatch.setenv("TROOP_APP_ID", given)
    with pytest.raises(SettingsError, match=f"TROOP_APP_ID: {said}, and wants the App ID"):
        read_settings()
    monkeypatch.setenv("TROOP_APP_ID", " 42 ")
    assert read_settings().app_id == 42
