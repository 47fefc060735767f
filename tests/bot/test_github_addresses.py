"""GitHub's two addresses belong together, so that no token goes to a host that is not the configured one."""

from pathlib import Path

import pytest

from bot.errors import SettingsError
from bot.settings import Settings, read_settings
from bot.settings.github_addresses import github_addresses

CLOUD = ("https://api.github.com", "https://github.com")
SERVER = ("https://ghes.example/api/v3", "https://ghes.example")
RESIDENCY = ("https://api.octo.ghe.com", "https://octo.ghe.com")


@pytest.mark.parametrize(
    ("api", "web", "both"),
    [
        ("", "", CLOUD),
        ("https://api.github.com/", "", CLOUD),
        ("", "https://github.com/", CLOUD),
        ("https://API.GitHub.com:443", "https://GITHUB.com", CLOUD),
        ("https://ghes.example/api/v3", "", SERVER),
        ("", "https://ghes.example", SERVER),
        ("https://GHES.example:443/api/v3/", "https://ghes.example/", SERVER),
        ("https://api.octo.ghe.com", "", RESIDENCY),
        ("", "https://octo.ghe.com", RESIDENCY),
        ("http://github:9000/api/v3", "http://github:9000", ("http://github:9000/api/v3", "http://github:9000")),
        ("http://[::1]:90/api/v3", "", ("http://[::1]:90/api/v3", "http://[::1]:90")),
    ],
)
def test_one_is_derived_from_the_other(api: str, web: str, both: tuple[str, str]) -> None:
    assert github_addresses(api, web) == both


@pytest.mark.parametrize(
    ("api", "web", "mend"),
    [
        ("https://ghes.example/api/v3", "https://github.com", "https://api.github.com"),
        ("https://api.github.com", "https://ghes.example", "https://ghes.example/api/v3"),
        ("https://ghes.example/api/v3", "https://other.example", "https://other.example/api/v3"),
        ("https://ghes.example/api/v3", "http://ghes.example", "http://ghes.example/api/v3"),
        ("https://ghes.example:8443/api/v3", "https://ghes.example", "https://ghes.example/api/v3"),
        ("https://api.octo.ghe.com", "https://github.com", "https://api.github.com"),
        ("https://api.octo.ghe.com", "https://other.ghe.com", "https://api.other.ghe.com"),
        ("https://ghes.example", "", "https://ghes.example/api/v3"),
        ("https://ghes.example/api/v4", "", "https://ghes.example/api/v3"),
        ("https://ghes.example/api/graphql", "", "https://ghes.example/api/v3"),
        ("https://github.com", "", "https://api.github.com"),
        ("https://www.github.com/api/v3", "", "https://api.github.com"),
        ("https://api.github.com/api/v3", "", "https://api.github.com"),
        ("http://api.github.com", "", "https://api.github.com"),
        ("https://octo.ghe.com/api/v3", "", "https://api.octo.ghe.com"),
        ("", "https://www.github.com", "https://github.com"),
        ("", "https://api.github.com", "https://github.com"),
        ("", "http://github.com", "https://github.com"),
        ("", "https://github.com/octo", "https://github.com"),
        ("", "https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("", "https://ghes.example/api/v3", "https://ghes.example"),
        ("https://ghes.example/api/v3?x=1", "", "without what begins with"),
        ("https://ghes.example:port/api/v3", "", "TROOP_GITHUB_URL"),
        ("https://ghes.example./api/v3", "", "TROOP_GITHUB_URL"),
    ],
)
def test_two_that_do_not_belong_together_are_refused_with_the_mend(api: str, web: str, mend: str) -> None:
    with pytest.raises(ValueError, match="TROOP_GITHUB_") as error:
        github_addresses(api, web)
    assert mend in str(error.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="name or a password") as error:
        github_addresses("https://me:hunter2@ghes.example/api/v3")
    assert "hunter2" not in str(error.value)


def test_settings_derive_and_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TROOP_GITHUB_URL", SERVER[0])
    settings = read_settings()
    assert (settings.github_url, settings.github_web_url) == SERVER
    assert "github_web_url" not in settings.model_fields_set
    monkeypatch.setenv("TROOP_GITHUB_WEB_URL", "https://github.com")
    with pytest.raises(SettingsError, match=r"do not belong together.*: correct it in the environment or .env$"):
        read_settings()
    assert Settings(_env_file=None, github_url="", github_web_url="").github_url == CLOUD[0]
