"""One request to GitHub's API, and the paths of a repository there."""

from typing import Any
from urllib.parse import quote

from github import Github, GithubException


def ask(client: Github, method: str, path: str, *, unless: int = 0, **more: Any) -> Any:
    """GitHub's answer, from JSON; None where it answers with the status `unless`. Raises `GithubException`.

    `more`: `parameters` of the query, or the `input` that is sent.
    """
    try:
        return client.requester.requestJsonAndCheck(method, path, **more)[1]
    except GithubException as error:
        if error.status != unless:
            raise
        return None


def path_of(repository: str, *parts: str | int) -> str:
    """`/repos/OWNER/NAME/...`, each part quoted."""
    owner, _, name = repository.partition("/")
    return "/".join(["/repos", *(quote(str(part), safe="") for part in (owner, name, *parts))])
