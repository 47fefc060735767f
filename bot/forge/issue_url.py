"""An issue by its address, for `troop solve --issue URL`. Blocking: one request."""

import re

import requests
from github import Auth, Github, GithubException, UnknownObjectException

from bot.errors import ForgeError
from bot.records import Issue
from bot.sanitize import clean_issue, redact
from bot.settings import Settings

_TIMEOUT = 30  # seconds
_REPOSITORY = "[A-Za-z0-9_-]{1,100}/[A-Za-z0-9_.-]{1,100}"
_PATH = re.compile(rf"/({_REPOSITORY})/(issues|pull)/([1-9][0-9]{{0,9}})(?:/(?:files|commits|checks)?)?(?:[?#].*)?")
_SHORT = re.compile(rf"({_REPOSITORY})#([1-9][0-9]{{0,9}})")
_BARE = re.compile(rf"[\w-]+(?:\.[\w-]+)+(?::\d+)?/{_REPOSITORY}/(?:issues|pull)/\d.*")  # without its scheme


def is_url(text: str) -> bool:
    """Whether the text is an address, or `OWNER/NAME#NUMBER`, rather than a file's name."""
    return re.match(r"https?://", text) is not None or (_SHORT.fullmatch(text) or _BARE.fullmatch(text)) is not None


def issue_at(url: str, settings: Settings) -> Issue:
    """The issue as it is now, cleaned; without its comments, since anybody may have written them.

    A token of the settings (`TROOP_TOKEN`) reads private repositories. Raises `ForgeError`.
    """
    web = settings.github_web_url.rstrip("/")
    short = _SHORT.fullmatch(url)
    full = f"{web}/{short[1]}/issues/{short[2]}" if short else url if "://" in url else f"https://{url}"
    match = _path_at(full, web, settings.github_url)
    if match is None or match[2] == "pull":
        what = "an issue but of a pull request: give the issue, or its text as a file" if match else "an issue"
        raise ForgeError(
            f"{redact(url[:200], ())} is not the address of {what}: {web}/OWNER/REPOSITORY/issues/NUMBER is wanted (of "
            "another server: set TROOP_GITHUB_WEB_URL and TROOP_GITHUB_URL)"
        )
    repository, number = match[1], int(match[3])
    token = settings.token.get_secret_value()
    auth = Auth.Token(token) if token else None
    try:
        with Github(auth=auth, base_url=settings.github_url, timeout=_TIMEOUT, retry=None, lazy=True) as client:
            found = client.get_repo(repository).get_issue(number)
            return clean_issue(
                found.title, found.body or "", number=number, author=found.user.login if found.user else "", url=full
            )
    except UnknownObjectException:
        hint = "it may be private: set TROOP_TOKEN" if not token else "TROOP_TOKEN may not read it"
        raise ForgeError(f"{url} is not there, or not to be seen ({hint})") from None
    except GithubException as error:
        said = error.data.get("message", "") if isinstance(error.data, dict) else ""
        raise ForgeError(f"{url} can't be read: GitHub answered {error.status} {said[:200]}") from None
    except requests.RequestException as error:
        raise ForgeError(f"{url} can't be read: {type(error).__name__}; is {settings.github_url} reachable?") from None


def _path_at(url: str, web: str, api: str) -> re.Match[str] | None:
    """The repository, the kind and the number in an address of the server: of a page, or of its API."""
    scheme, _, rest = url.partition("://")
    hosts = {web.partition("://")[2], "www." + web.partition("://")[2], api.rstrip("/").partition("://")[2] + "/repos"}
    if scheme not in ("http", "https"):
        return None
    found = [_PATH.fullmatch(rest.removeprefix(host)) for host in hosts if rest.startswith(f"{host}/")]
    return next(filter(None, found), None)
