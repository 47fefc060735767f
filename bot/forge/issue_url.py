"""An issue by its address, for `troop solve --issue URL`. Blocking: one request."""

import re
from urllib.parse import urlsplit

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
_NUMBER = re.compile(r"#?([1-9][0-9]{0,9})")  # of the repository that the checkout was cloned from
_REMOTE = re.compile(rf"(?:(?:https?|ssh|git)://)?(?:[^@/\s]+@)?([\w.-]+)(?::\d+)?[:/]+({_REPOSITORY}?)(?:\.git)?/?")
_AROUND = " \t\r\n<>\"'`.,;"  # what is copied along with an address
_BARE = re.compile(rf"[\w-]+(?:\.[\w-]+)+(?::\d+)?/{_REPOSITORY}/(?:issues|pull)/\d.*")  # without its scheme


def is_url(text: str) -> bool:
    """Whether the text is an address, `OWNER/NAME#NUMBER` or `#NUMBER` alone, rather than a file's name."""
    text = text.strip(_AROUND)
    forms = (_SHORT, _BARE, _NUMBER)
    return re.match(r"(?i)https?://", text) is not None or any(form.fullmatch(text) for form in forms)


def of_origin(text: str, remote: str, settings: Settings) -> str:
    """`OWNER/NAME#NUMBER` for a number alone, by the address of the checkout's remote; else the text.

    Raises `ForgeError` where the remote is no repository of the GitHub of the settings.
    """
    number = _NUMBER.fullmatch(text.strip(_AROUND))
    if number is None:
        return text
    web = settings.github_web_url.rstrip("/")
    found = _REMOTE.fullmatch(remote.strip())
    if found is None or found[1].lower() != (urlsplit(web).hostname or ""):
        raise ForgeError(
            f"#{number[1]} says of no repository of {web}, since the checkout was not cloned from there: give "
            f"OWNER/NAME#{number[1]}, the issue's address, or its text as a file"
        )
    return f"{found[2]}#{number[1]}"


def issue_at(url: str, settings: Settings) -> Issue:
    """The issue as it is now, cleaned; without its comments, since anybody may have written them.

    A token of the settings (`TROOP_TOKEN`) reads private repositories. Raises `ForgeError`.
    """
    web = settings.github_web_url.rstrip("/")
    url = url.strip(_AROUND)
    short = _SHORT.fullmatch(url)
    full = f"{web}/{short[1]}/issues/{short[2]}" if short else url if "://" in url else f"https://{url}"
    match = _path_at(full, web, settings.github_url)
    if match is None or match[2] == "pull":
        what = "an issue but of a pull request: give the issue, or its text as a file" if match else "an issue"
        raise ForgeError(
            f"{redact(url[:200], ())} is not the address of {what}: {web}/OWNER/REPOSITORY/issues/NUMBER is wanted (of "
            "another server: set TROOP_GITHUB_WEB_URL and TROOP_GITHUB_URL)"
        )
    repository, number = match[1].removesuffix(".git"), int(match[3])
    full = f"{web}/{repository}/issues/{number}"
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
    place, slash, path = rest.partition("/")
    scheme = scheme.lower()
    place = place.rpartition("@")[2].lower().removesuffix({"https": ":443", "http": ":80"}.get(scheme, ":"))
    rest = f"{place}{slash}{path}"
    hosts = {web.partition("://")[2], "www." + web.partition("://")[2], api.rstrip("/").partition("://")[2] + "/repos"}
    if scheme not in ("http", "https"):
        return None
    found = [_PATH.fullmatch(rest.removeprefix(host)) for host in hosts if rest.startswith(f"{host}/")]
    return next(filter(None, found), None)
