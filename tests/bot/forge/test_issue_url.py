"""`troop solve --issue URL`."""

import pytest
from pydantic import SecretStr

from bot.errors import ForgeError
from bot.forge.issue_url import is_url, issue_at
from bot.settings import Settings
from tests.github.fixtures import settings_for
from tests.github.server import GitHubServer

REPO = "org/tools"


def settings_for_nobody() -> Settings:
    return Settings(_env_file=None)


@pytest.fixture
def number(github: GitHubServer) -> int:
    github.create_repository(REPO, {"a.py": "x = 1\n"})
    return github.open_issue(REPO, "x is wrong", "It is 1.<!-- hidden -->", user="reporter")


@pytest.mark.parametrize("more", ["", "/", "#issuecomment-1", "?x=1"])
def test_the_issue_is_read_and_cleaned(github: GitHubServer, number: int, more: str) -> None:
    settings = settings_for(github, token=SecretStr(github.create_token("robin")))
    found = issue_at(f"{github.url}/{REPO}/issues/{number}{more}", settings)
    assert (found.title, found.body, found.number, found.author) == ("x is wrong", "It is 1.", number, "reporter")
    assert found.flags


def test_what_is_not_there_says_so(github: GitHubServer, number: int) -> None:
    settings = settings_for(github, token=SecretStr(github.create_token("robin")))
    with pytest.raises(ForgeError, match="is not there, or not to be seen"):
        issue_at(f"{github.url}/{REPO}/issues/{number + 7}", settings)


@pytest.mark.parametrize("path", ["", "/org", f"/{REPO}/pull/1", f"/{REPO}/issues/x", f"/{REPO}/issues/1/../2"])
def test_what_is_no_issue_is_refused_before_any_request(path: str) -> None:
    settings = settings_for_nobody()
    for url in (f"https://github.com{path}", "https://github.com.example.org/o/r/issues/1"):
        with pytest.raises(ForgeError, match="is not the address of an issue"):
            issue_at(url, settings)


def test_a_server_that_does_not_answer_is_named() -> None:
    settings = settings_for_nobody().model_copy(update={"github_url": "http://127.0.0.1:9"})
    with pytest.raises(ForgeError, match=r"is http://127\.0\.0\.1:9 reachable"):
        issue_at("https://github.com/o/r/issues/1", settings)


def test_a_file_is_no_address() -> None:
    assert is_url("https://github.com/o/r/issues/1")
    assert not is_url("http.md")
    assert not is_url("issue https://x")
