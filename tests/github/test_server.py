"""The test GitHub itself: it must refuse what GitHub refuses, or the tests that lean on it prove nothing."""

import hashlib
import hmac
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.github import GitHubServer
from tests.github.fixtures import KEY
from tests.github.markdown import render
from tests.github.repository import environment
from tests.github.server import make_key
from tests.patience import PATIENCE, until

REPO = "olive/tools"


@pytest.fixture
def number(github: GitHubServer) -> int:
    github.create_repository(REPO, {"a.py": "x = 1\n"})
    return github.open_issue(REPO, "x is wrong", "It should be 2.")


def bearer(github: GitHubServer, key: str = KEY, **claims: Any) -> dict[str, str]:
    now = int(time.time())
    payload = {"iat": now - 10, "exp": now + 300, "iss": str(github.app_id)} | claims
    return {"authorization": f"Bearer {jwt.encode(payload, key, algorithm='RS256')}"}


def mint(github: GitHubServer, **narrowed: Any) -> httpx.Response:
    url = f"{github.api_url}/app/installations/{github.installation_id(REPO)}/access_tokens"
    return httpx.post(url, headers=bearer(github), json=narrowed)


def headers(token: str) -> dict[str, str]:
    return {"authorization": f"token {token}"}


# -- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "claims"),
    [
        (None, {}),
        (KEY, {"iss": "99"}),
        (KEY, {"exp": -5}),  # seconds from now
        (KEY, {"exp": 3600}),
        (KEY, {"iat": 600}),
    ],
    ids=["another key", "another App", "expired", "too long", "from the future"],
)
def test_a_bad_jwt_gets_no_token(github: GitHubServer, number: int, key: str | None, claims: dict[str, Any]) -> None:
    claims = claims | {name: int(time.time()) + claims[name] for name in ("exp", "iat") if name in claims}
    bad = bearer(github, key or make_key()[0], **claims)
    url = f"{github.api_url}/app/installations/{github.installation_id(REPO)}/access_tokens"
    assert httpx.post(url, headers=bad).status_code in (401, 404)
    assert not github.world.tokens


def test_a_token_can_do_what_it_was_made_for_alone(github: GitHubServer, number: int) -> None:
    github.create_repository("olive/other", {"b": "1"})
    token = mint(github, repositories=["tools"], permissions={"issues": "read"}).json()["token"]
    api = github.api_url
    assert httpx.get(f"{api}/repos/{REPO}/issues/1", headers=headers(token)).status_code == 200
    said = httpx.post(f"{api}/repos/{REPO}/issues/1/comments", headers=headers(token), json={"body": "x"})
    assert said.status_code == 403
    assert httpx.get(f"{api}/repos/{REPO}/pulls", headers=headers(token)).status_code == 403
    assert httpx.get(f"{api}/repos/olive/other", headers=headers(token)).status_code == 404
    assert httpx.get(f"{api}/repos/{REPO}/issues/1", headers=headers("wrong")).status_code == 401
    assert httpx.get(f"{api}/repos/{REPO}/issues/1").status_code == 401
    github.advance(3601)
    assert httpx.get(f"{api}/repos/{REPO}/issues/1", headers=headers(token)).status_code == 401


@pytest.mark.parametrize("narrowed", [{"repositories": ["nothing"]}, {"permissions": {"administration": "write"}}])
def test_nothing_is_granted_beyond_the_installation(
    github: GitHubServer, number: int, narrowed: dict[str, Any]
) -> None:
    assert mint(github, **narrowed).status_code == 422


def push(github: GitHubServer, folder: Path, token: str) -> subprocess.CompletedProcess[bytes]:
    url = github.url.replace("http://", f"http://x-access-token:{token}@") + f"/{REPO}.git"
    script = f"git clone --quiet {url} . && echo 2 > b && git add b && git commit --quiet -m b && git push --quiet"
    folder.mkdir()
    command = ["sh", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment(GIT_TERMINAL_PROMPT="0"), capture_output=True)


def test_a_token_that_may_read_does_not_push(github: GitHubServer, number: int, tmp_path: Path) -> None:
    before = github.branches(REPO)
    reader = mint(github, permissions={"contents": "read"}).json()["token"]
    refused = push(github, tmp_path / "r", reader)
    assert refused.returncode != 0
    assert b"denied" in refused.stderr
    assert github.branches(REPO) == before
    writer = mint(github, permissions={"contents": "write"}).json()["token"]
    assert push(github, tmp_path / "w", writer).returncode == 0
    assert github.branches(REPO) != before


def test_a_private_repository_is_closed(github: GitHubServer, number: int) -> None:
    url = f"{github.url}/{REPO}.git/info/refs?service=git-upload-pack"
    assert httpx.get(url).status_code == 200
    github.set_repository(REPO, private=True)
    assert httpx.get(url).status_code == 401
    stranger = github.create_token("mallory")
    assert httpx.get(url, auth=("x", stranger)).status_code == 403
    assert httpx.get(f"{github.api_url}/repos/{REPO}", headers=headers(stranger)).status_code == 404


# -- limits and lists --------------------------------------------------------------------------------------------


def test_limits(github: GitHubServer, number: int) -> None:
    token = github.create_token("olive")
    url = f"{github.api_url}/repos/{REPO}/issues/1/comments"
    assert httpx.post(url, headers=headers(token), json={"body": "x" * 65_536}).status_code == 201
    refused = httpx.post(url, headers=headers(token), json={"body": "x" * 65_537})
    assert refused.status_code == 422
    assert "maximum is 65536 characters" in refused.json()["errors"][0]["message"]
    assert github.writes() == 1


def test_pages_of_a_list(github: GitHubServer, number: int) -> None:
    for i in range(5):
        github.comment(REPO, number, str(i))
    url: str | None = f"{github.api_url}/repos/{REPO}/issues/1/comments?per_page=2"
    seen, pages = [], 0
    while url:
        answer = httpx.get(url, headers=headers(github.create_token("olive")))
        seen += [comment["body"] for comment in answer.json()]
        url, pages = answer.links.get("next", {}).get("url"), pages + 1
    assert (seen, pages) == (list("01234"), 3)


def test_a_pull_request_needs_commits_and_is_one(github: GitHubServer, number: int) -> None:
    token = github.create_token("olive")
    fields = {"head": "olive:topic", "base": "main", "title": "t", "body": "b", "draft": True}

    def create() -> httpx.Response:
        return httpx.post(f"{github.api_url}/repos/{REPO}/pulls", headers=headers(token), json=fields)

    assert create().status_code == 422  # no such branch
    github.world.repository(REPO).git.git("branch", "topic", "main")
    assert "No commits between" in create().text
    github.commit(REPO, {"a.py": "x = 2\n"}, branch="topic")
    assert create().status_code == 201
    assert "already exists" in create().text
    (pull,) = github.pull_requests(REPO)
    assert (pull["draft"], pull["number"]) == (True, 2)
    assert "+x = 2" in pull["diff"]


# -- faults ------------------------------------------------------------------------------------------------------


def test_faults(github: GitHubServer, number: int) -> None:
    url = f"{github.api_url}/repos/{REPO}/issues/1/comments"
    token = headers(github.create_token("olive"))
    github.fault("POST", "/comments$", status=502)
    github.fault("POST", "/comments$", status=502, after=True)
    github.fault("POST", "/comments$", hang=True, after=True)
    github.rate_limit("POST", "/comments$", seconds=7)
    assert httpx.post(url, headers=token, json={"body": "1"}).status_code == 502
    assert github.comments(REPO, number) == []
    assert httpx.post(url, headers=token, json={"body": "2"}).status_code == 502
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, headers=token, json={"body": "3"}, timeout=httpx.Timeout(PATIENCE, read=0.3))
    until(lambda: github.comments(REPO, number) == ["2", "3"])
    limited = httpx.post(url, headers=token, json={"body": "4"})
    assert (limited.status_code, limited.headers["retry-after"]) == (403, "7")
    assert github.comments(REPO, number) == ["2", "3"]
    assert httpx.post(url, headers=token, json={"body": "5"}).status_code == 201
    assert [r.json["body"] for r in github.requests if r.method == "POST"] == ["1", "2", "3", "4", "5"]


# -- webhooks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver: its URL and what it got."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/webhook", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_deliveries_are_signed_and_in_order(
    github: GitHubServer, number: int, hook: tuple[str, list[tuple[dict[str, str], bytes]]]
) -> None:
    url, got = hook
    github.set_hook(url, "It's a Secret to Everybody")
    github.label(REPO, number, "troop", user="wendy")
    comment = github.comment(REPO, number, "/troop help", user="wendy")
    github.edit_comment(REPO, comment, "/troop stop", user="wendy")
    github.edit_issue(REPO, number, state="closed")
    github.ping()
    github.settle()
    events = [(h["x-github-event"], json.loads(body).get("action")) for h, body in got]
    assert events == [
        ("issues", "labeled"),
        ("issue_comment", "created"),
        ("issue_comment", "edited"),
        ("issues", "closed"),
        ("ping", None),
    ]
    for sent, body in got:
        expected = hmac.new(b"It's a Secret to Everybody", body, hashlib.sha256).hexdigest()
        assert sent["x-hub-signature-256"] == f"sha256={expected}"
    first = json.loads(got[0][1])
    assert first["label"]["name"] == "troop"
    assert first["sender"] == github.payloads.user("wendy")
    assert first["installation"]["id"] == github.installation_id(REPO)
    assert len({h["x-github-delivery"] for h, _ in got}) == 5
    assert {d["status_code"] for d in github.deliveries()[1:]} == {202}


def test_a_redelivery_has_the_same_guid_and_bytes(
    github: GitHubServer, number: int, hook: tuple[str, list[tuple[dict[str, str], bytes]]]
) -> None:
    url, got = hook
    github.set_hook(url, "s")
    github.label(REPO, number)
    github.settle()
    github.comment(REPO, number, "meanwhile")
    github.redeliver(got[0][0]["x-github-delivery"])
    github.settle()
    assert got[2][0]["x-github-delivery"] == got[0][0]["x-github-delivery"]
    assert got[2][1] == got[0][1]
    listed = httpx.get(f"{github.api_url}/app/hook/deliveries", headers=bearer(github)).json()
    assert [d["redelivery"] for d in listed[:3]] == [True, False, False]
    again = f"{github.api_url}/app/hook/deliveries/{listed[0]['id']}/attempts"
    assert httpx.post(again, headers=bearer(github)).status_code == 202
    github.settle()
    assert len(got) == 4


def test_a_delivery_that_nobody_takes_is_logged_and_not_repeated(github: GitHubServer, number: int) -> None:
    github.set_hook("http://127.0.0.1:9/webhook")
    github.label(REPO, number)
    github.settle()
    assert [d["status_code"] for d in github.deliveries()] == [0, 0]  # the issue was opened without a hook


# -- pages -------------------------------------------------------------------------------------------------------


def test_pages_show_and_escape(github: GitHubServer, number: int) -> None:
    evil = "<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1)) ![i](https://e.example/i)"
    other = github.open_issue(REPO, evil, evil + "\n\n<details open><summary>more</summary>\n\n**bold**\n\n</details>")
    github.comment(REPO, other, f"{evil}\n\n| a | b |\n|--|--|\n| 1 | 2 |")
    github.label(REPO, other, "<b>label</b>")
    github.commit(REPO, {"a.py": f"x = 2  # {evil}\n"}, branch="topic")
    fields = {"head": "topic", "base": "main", "title": evil, "body": evil, "draft": True}
    github.world.open_pull(github.world.repository(REPO), "olive", fields)
    for path in ("/", f"/{REPO}", f"/{REPO}/issues/{other}", f"/{REPO}/pull/3", f"/{REPO}/blob/topic/a.py"):
        page = httpx.get(f"{github.url}{path}")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for tag in ("<script", "<img", "<b>label", 'href="javascript', "onerror=alert(1)>"):
            assert tag not in page.text, (path, tag)
    page = httpx.get(f"{github.url}/{REPO}/issues/{other}").text
    assert "<strong>bold</strong>" in page
    assert "<td>2</td>" in page
    pull = httpx.get(f"{github.url}/{REPO}/pull/3").text
    assert ">Draft</span>" in pull
    assert '<tr class="add"><td>+x = 2' in pull
    assert httpx.get(f"{github.url}/{REPO}/issues/99").status_code == 404


def test_forms(github: GitHubServer, number: int) -> None:
    url = f"{github.url}/{REPO}/issues"
    assert httpx.post(url, data={"title": "Second", "body": "b", "user": "wendy"}).headers["location"].endswith("/2")
    for fields in (
        {"action": "label", "label": "troop", "user": "olive"},
        {"action": "comment", "body": "/troop help", "user": "wendy"},
        {"action": "close", "user": "olive"},
    ):
        assert httpx.post(f"{url}/2", data=fields).status_code == 303
    issue = github.issue(REPO, 2)
    assert (issue["labels"], issue["state"], issue["user"]["login"]) == (["troop"], "closed", "wendy")
    assert github.comments(REPO, 2) == ["/troop help"]
    elsewhere = {"origin": "https://evil.example"}
    assert httpx.post(f"{url}/2", data={"action": "reopen"}, headers=elsewhere).status_code == 403
    assert httpx.post(f"{github.url}/control/comments", headers=elsewhere).status_code == 403


def test_markdown_marks_what_github_acts_on() -> None:
    html = render("@olive fixes #1 olive/tools#2 `@code` mail@host <!-- hidden -->\n\n```\n@fenced\n```")
    assert html.count('class="mention"') == 1
    assert html.count('class="reference"') == 2
    assert "hidden" not in html


# -- another process ---------------------------------------------------------------------------------------------


def test_control_from_another_process(github: GitHubServer) -> None:
    def call(method: str, **arguments: Any) -> httpx.Response:
        return httpx.post(f"{github.url}/control/{method}", json=arguments)

    assert call("create_repository", name=REPO, files={"a": "b"}).json()["full_name"] == REPO
    assert call("open_issue", name=REPO, title="t").json() == 1
    assert call("comment", name=REPO, number=1, body="hello").status_code == 200
    assert call("comments", name=REPO, number=1).json() == ["hello"]
    assert call("nothing").status_code == 400
    assert call("open_issue", nonsense=1).status_code == 400
    assert call("__init__").status_code == 400


def test_a_folder_becomes_a_repository(github: GitHubServer, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1\n")
    github.create_repository(REPO, folder=str(tmp_path))
    assert github.read_file(REPO, "src/a.py") == "x = 1\n"
