"""GitHub's answers that are errors: whether they pass, how long they ask to wait, and what people are told of them.

https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#handle-rate-limit-errors-appropriately
"""

import contextlib
import json
import math
from typing import Any

from github import Github, GithubException

from bot.errors import ForgeError, Refused
from bot.git.waiting import bounded, now_of, seconds_of

# What a refusal speaks of, and what helps.
_REMEDIES = {
    "is locked": "unlock the conversation: GitHub lets no App write in a locked one",
    "suspended": "the account's owner lifts that in its settings, under Applications",
    "archived": "unarchive the repository in its settings",
}


def headers_of(error: GithubException) -> dict[str, str]:
    """By their names in lower case."""
    return {name.lower(): str(value) for name, value in (error.headers or {}).items()}


def message_of(error: GithubException) -> str:
    """What the answer says, with the details of its errors, at most 500 characters; else its status."""
    data = error.data if isinstance(error.data, dict) else {}
    found = [str(data.get("message", ""))]
    for detail in data.get("errors") or ():
        if isinstance(detail, dict):
            found.append(str(detail.get("message") or f"{detail.get('field', '')} {detail.get('code', '')}".strip()))
        else:
            found.append(str(detail))
    return "; ".join(part for part in found if part)[:500] or f"status {error.status}"


def may_pass(error: GithubException) -> bool:
    """Whether trying again may help."""
    return error.status >= 500 or error.status == 408 or is_rate_limit(error)


def asked_to_wait(error: GithubException) -> float | None:
    """Seconds that the headers of a rate limit ask for, by GitHub's clock; None where they ask for none."""
    headers = headers_of(error)
    date = headers.get("date", "")
    asked = seconds_of(headers.get("retry-after", ""), date)
    if asked is None and headers.get("x-ratelimit-remaining") == "0":
        with contextlib.suppress(ValueError):
            asked = max(1.0, float(headers.get("x-ratelimit-reset", "")) - now_of(date) + 1.0)
    return None if asked is None or math.isnan(asked) else bounded(asked)


def is_rate_limit(error: GithubException) -> bool:
    """429, or a 403 that says so: GitHub uses both, the latter for missing permissions, too."""
    if error.status == 429:
        return True
    headers = headers_of(error)
    told = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    return error.status == 403 and (told or "rate limit" in message_of(error).lower())


def refusal(what: str, error: GithubException) -> ForgeError:
    """The error for people, with what helps: `Refused` where trying again is of no use. `what`: the request."""
    message = message_of(error)
    if error.status == 401:
        return Refused(
            f"GitHub does not accept the credentials ({what}): {message}; check the App's id and key, or the token"
        )
    if error.status == 403:
        wanted = headers_of(error).get("x-accepted-github-permissions", "")
        hint = f"; it requires the permission {wanted}" if wanted else "; check the App's permissions"
        for word, remedy in _REMEDIES.items():
            hint = f"; {remedy}" if word in message else hint
        return Refused(f"GitHub refused ({what}): {message}{hint}")
    if error.status in (404, 410, 451):
        return Refused(f"GitHub finds nothing that we may see ({what}): {message}; is the App installed there?")
    if error.status < 400:
        return ForgeError(f"GitHub has the repository under another name now ({what}); it is tried again by that one")
    return ForgeError(f"GitHub refused the request ({what}): {message}")


def unreachable(repository: str) -> Refused:
    """Of a repository that no installation of the App has."""
    return Refused(
        f"the App can't reach {repository}: it is not installed there any more, or the repository is gone; install it, "
        "or give its installation that repository"
    )


def without_redirects(client: Github) -> Github:
    """The client, for which a redirection that it does not follow is an error.

    PyGithub follows 301 alone and takes any other for success, so that a write to a renamed repository, which GitHub
    answers with 307, would seem to be done.
    """
    ask = client.requester.requestJson

    def checked(*given: Any, **named: Any) -> tuple[int, dict[str, Any], str]:
        status, headers, output = ask(*given, **named)
        if 300 <= status < 400 and status != 304:
            with contextlib.suppress(ValueError):
                raise GithubException(status, json.loads(output or "{}"), headers)
            raise GithubException(status, {}, headers)
        return status, headers, output

    client.requester.requestJson = checked  # type: ignore[method-assign]
    return client
