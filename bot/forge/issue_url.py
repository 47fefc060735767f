"""An issue by its address, for `troop solve --issue URL`. Blocking: one request."""

import re

import requests
from github import Auth, Github, GithubException, UnknownObjectException

from bot.errors import ForgeError
from bot.records import Issue
from bot.sanitize import clean_issue
from bot.settings import Settings

_TIMEOUT = 30  # seconds
_PATH = re.compile(r"/([A-Za-z0-9_-]{1,100}/[A-Za-z0-9_.-]{1,100})/issues/([1-9][0-9]{0,9})/?(?:[?#].*)?")


def is_url(text: str) -> bool:
    """Whether the text is an address rather than a file's name."""
    return re.match(r"https?://", text) is not None


def issue_at(url: str, settings: Settings) -> Issue:
    """The issue as it is now, cleaned; without its comments, since anybody may have written them.

    A token of the settings (`TROOP_TOKEN`) reads private repositories. Raises `ForgeError`.
    """
    web = settings.github_web_url.rstrip("/")
    match = _PATH.fullmatch(url.removeprefix(web)) if url.startswith(f"{web}/") else None
    if match is None:
        raise ForgeError(
            f"{url[:200]} is not the address of an issue: {web}/OWNER/REPOSITORY/issues/NUMBER is wanted (of another "
            "server: set TROOP_GITHUB_WEB_URL and TROOP_GITHUB_URL)"
        )
    repository, number = match[1], int(match[2])
    token = settings.token.get_secret_value()
    auth = Auth.Token(token) if token else None
    try:
        with Github(auth=auth, base_url=settings.github_url, timeout=_TIMEOUT, retry=None, lazy=True) as client:
            found = client.get_repo(repository).get_issue(number)
            return clean_issue(
                found.title, found.body or "", number=number, author=found.user.login if found.user else "", url=url
            )
    except UnknownObjectException:
        hint = "it may be private: set TROOP_TOKEN" if not token else "TROOP_TOKEN may not read it"
        raise ForgeError(f"{url} is not there, or not to be seen ({hint})") from None
    except GithubException as error:
        said = error.data.get("message", "") if isinstance(error.data, dict) else ""
        raise ForgeError(f"{url} can't be read: GitHub answered {error.status} {said[:200]}") from None
    except requests.RequestException as error:
        raise ForgeError(f"{url} can't be read: {type(error).__name__}; is {settings.github_url} reachable?") from None
