"""`troop solve --issue URL`."""

import pytest
from pydantic import SecretStr

from bot.errors import ForgeError
from bot.forge.issue_url import is_url, issue_at, of_origin
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


def test_other_forms_of_its_address(github: GitHubServer, number: int) -> None:
    settings = settings_for(github, token=SecretStr(github.create_token("robin")))
    bare = github.url.partition("://")[2]
    forms = (
        f"{REPO}#{number}",
        f"{bare}/{REPO}/issues/{number}",
        f"{settings.github_url}/repos/{REPO}/issues/{number}",
    )
    for form in (*forms, f"https://{bare}/{REPO}/issues/{number}?x#y", f"http://www.{bare}/{REPO}/issues/{number}"):
        assert issue_at(form, settings).number == number
    for form in ("<{}>", " {}\n", '"{}"', "{}.", "{},", "`{}`"):
        assert issue_at(form.format(f"http://{bare}/{REPO}/issues/{number}"), settings).number == number
    assert issue_at(f"{REPO}.git#{number}", settings).number == number
    found = issue_at(f"HTTP://robin:secret@{bare.upper()}/{REPO}/issues/{number}", settings)
    assert found.url == f"{settings.github_web_url.rstrip('/')}/{REPO}/issues/{number}", "no password goes with it"


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("https://github.com/o/r.git", "o/r#7"),
        ("https://x-token:abc@GitHub.com/o/r", "o/r#7"),
        ("git@github.com:o/r.git", "o/r#7"),
        ("ssh://git@github.com:22/o/r.name.git", "o/r.name#7"),
        ("git://github.com/o/r/", "o/r#7"),
        ("https://gitlab.com/o/r.git", ""),
        ("git@github.com.example.org:o/r.git", ""),
        ("/srv/r.git", ""),
        ("", ""),
    ],
)
def test_a_number_alone_is_of_the_repository_that_was_cloned(remote: str, found: str) -> None:
    settings = settings_for_nobody()
    assert of_origin("https://github.com/a/b/issues/1", remote, settings) == "https://github.com/a/b/issues/1"
    for number in ("7", "#7", " #7\n"):
        assert is_url(number)
        if found:
            assert of_origin(number, remote, settings) == found
            continue
        with pytest.raises(ForgeError, match=r"give OWNER/NAME#7, the issue's address, or its text as a file"):
            of_origin(number, remote, settings)


def test_a_pull_request_is_named_as_one() -> None:
    with pytest.raises(ForgeError, match=r"but of a pull request: give the issue"):
        issue_at("https://github.com/o/r/pull/3/files", settings_for_nobody())


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
    for form in ("o/r#1", "github.com/o/r/issues/1", "ghe.example.org:8443/o/r/pull/1"):
        assert is_url(form)
    assert not is_url("http.md")
    assert not is_url("notes/issue.md")
    assert not is_url("docs/o/issues/1")
    assert not is_url("issue https://x")
