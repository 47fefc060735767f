"""Requests are held to GitHub's published description."""

import httpx
import pytest

from tests.github import GitHubServer
from tests.github.description import FILE, Description, description
from tests.github.fixtures import github_server

__all__ = ["github_server"]
pytestmark = pytest.mark.service


@pytest.fixture
def published() -> Description:
    found = description()
    if found is None:
        pytest.skip(f"no description: make {FILE.relative_to(FILE.parents[2])}")
    return found


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "words"),
    [
        ("POST", "/repos/o/n/issues/1/comments", "", b'{"body": "x"}', ""),
        ("POST", "/repos/o/n/issues/1/comments", "", b'{"body": 1}', "is not of type 'string'"),
        ("POST", "/repos/o/n/issues/1/comments", "", b'{"body": "x", "pinned": true}', "'pinned' was unexpected"),
        ("POST", "/repos/o/n/issues/1/comments", "", b"{}", "'body' is a required property"),
        ("POST", "/repos/o/n/issues/1/comments", "", b"", "there is no body"),
        ("POST", "/repos/o/n/issues/1/labels", "", b'["troop"]', "is not valid under any"),
        ("POST", "/repos/o/n/git/trees", "", b'{"tree": [{"path": "a", "mode": "100644", "sha": null}]}', ""),
        ("POST", "/repos/o/n/git/trees", "", b'{"tree": [{"path": "a", "mode": "644"}]}', "is not one of"),
        ("GET", "/repos/o/n/contents/a/b.py", "ref=main", b"", ""),
        ("GET", "/repos/o/n/pulls", "state=merged", b"", "is not one of"),
        ("GET", "/repos/o/n/pulls", "perpage=5", b"", "there is no parameter perpage"),
        ("GET", "/repos/o/n/commits/a/check-runs", "filter=latest", b"", ""),
        ("GET", "/repos/o/n/commits/a", "filter=latest", b"", "there is no parameter filter"),
        ("GET", "/repos/o/n/rules/branches/a%2Fb", "", b"", ""),
        ("GET", "/repos/o/n/rules/branches/a/b", "", b"", "there is no such operation"),
        ("PUT", "/repos/o/n", "", b"", "there is no such operation"),
    ],
)
def test_a_request_is_compared(
    published: Description, method: str, path: str, query: str, body: bytes, words: str
) -> None:
    problems = published.problems(method, path, query, body)
    assert (words in problems[0]) if words else problems == [], problems


def test_the_test_github_notes_what_github_would_not_know(published: Description, github_server: GitHubServer) -> None:
    with httpx.Client(trust_env=False) as client:
        client.get(f"{github_server.api_url}/repos/olive/tools/no-such-thing")
    assert github_server.traffic.undescribed.pop() == "GET /repos/olive/tools/no-such-thing: there is no such operation"
