"""Git's objects over REST, as an App makes commits that GitHub signs; and commits compared.

A signature here is a line in a file of the repository, where a hook finds it, too: what GitHub made for an App without
an author of its own, and what a test lets a person sign.
"""

import base64
import binascii
import re
import tempfile
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tests.github.payloads import Json, stamp
from tests.github.repository import GitRepository
from tests.github.world import ApiError, Repository

WEB_FLOW = ("GitHub", "noreply@github.com", "web-flow")  # who commits what GitHub makes
BLOB_LIMIT = 40_000_000  # bytes of a request
_OURS = re.compile(r"(?:\d+\+)?([A-Za-z0-9-]+(?:\[bot\])?)@users\.noreply\.github\.com")


def login_of(email: str) -> str | None:
    """Whose address it is, as GitHub finds a commit's users: whoever wrote it there."""
    found = _OURS.fullmatch(email)
    return WEB_FLOW[2] if email == WEB_FLOW[1] else found[1] if found else None


class GitData:
    """The REST calls; `rest` has the checks of who asks."""

    def __init__(self, rest: Any) -> None:
        self.rest = rest
        here = "/repos/{owner}/{name}"
        for method, path, handler in (
            ("POST", here + "/git/blobs", self.create_blob),
            ("POST", here + "/git/trees", self.create_tree),
            ("POST", here + "/git/commits", self.create_commit),
            ("GET", here + "/compare/{ends}", self.compare),
        ):
            rest.router.add_api_route(path, handler, methods=[method], response_model=None)

    async def _writer(self, request: Request) -> tuple[Repository, str, bool, Json]:
        """The repository, who writes, whether that is the App, and the fields."""
        repository, token = self.rest.enter(request, "contents", "write")
        body = await request.body()
        if len(body) > BLOB_LIMIT:
            raise ApiError(413, "Payload too large")
        return repository, token.user, bool(token.installation), await request.json()

    async def create_blob(self, request: Request) -> Response:
        repository, _, _, fields = await self._writer(request)
        try:
            encoded = fields.get("encoding", "utf-8") == "base64"
            content = base64.b64decode(fields["content"]) if encoded else fields["content"].encode()
        except binascii.Error as error:
            raise ApiError(422, "content is not valid Base64") from error
        sha = repository.git.git("hash-object", "-w", "--stdin", stdin=content).strip()
        return JSONResponse({"sha": sha, "url": self._url(repository, "blobs", sha)}, 201)

    async def create_tree(self, request: Request) -> Response:
        repository, _, _, fields = await self._writer(request)
        git = repository.git
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            if fields.get("base_tree"):
                git.git("read-tree", fields["base_tree"], **env)
            there = set(git.git("ls-files", "-z", **env).split("\0"))
            lines = [self._line(git, there, entry) for entry in fields["tree"]]
            git.git("update-index", "-z", "--index-info", stdin="".join(lines).encode(), **env)
            sha = git.git("write-tree", **env).strip()
        return JSONResponse({"sha": sha, "url": self._url(repository, "trees", sha), "truncated": False}, 201)

    @staticmethod
    def _line(git: GitRepository, there: set[str], entry: Json) -> str:
        """For git's index. A value of None for `sha` deletes, which what is not there can't be."""
        if "content" in entry:
            sha = git.git("hash-object", "-w", "--stdin", stdin=entry["content"].encode()).strip()
        elif entry["sha"] is not None:
            sha = entry["sha"]
            if git.git("cat-file", "-t", sha, check=False).strip() != entry["type"]:
                raise ApiError(422, "tree.sha is not a valid object")
        elif entry["path"] in there:
            return f"0 {'0' * 40}\t{entry['path']}\0"
        else:
            raise ApiError(422, "GitRPC::BadObjectState")
        return f"{entry['mode']} {sha}\t{entry['path']}\0"

    async def create_commit(self, request: Request) -> Response:
        repository, user, is_app, fields = await self._writer(request)
        signs = is_app and "author" not in fields and "committer" not in fields and self.rest.world.signs
        whom = {"name": user, "email": f"{self.rest.world.user(user).id}+{user}@users.noreply.github.com"}
        given = {"AUTHOR": whom | fields.get("author", {}), "COMMITTER": whom | fields.get("committer", {})}
        if signs:
            given["COMMITTER"] = {"name": WEB_FLOW[0], "email": WEB_FLOW[1]}
        when = stamp(self.rest.world.now())
        env = {f"GIT_{role}_{part.upper()}": who[part] for role, who in given.items() for part in ("name", "email")}
        env |= {f"GIT_{role}_DATE": when for role in given}
        parents = [part for parent in fields.get("parents", []) for part in ("-p", parent)]
        message = str(fields["message"]).encode()
        sha = repository.git.git("commit-tree", fields["tree"], *parents, "-F", "-", stdin=message, **env).strip()
        if signs:
            repository.git.sign(sha)
        answer = {"sha": sha, "url": self._url(repository, "commits", sha), "message": fields["message"]}
        return JSONResponse(answer | {"verification": self._verification(repository, sha)}, 201)

    async def compare(self, request: Request, ends: str) -> Json:
        repository, _ = self.rest.enter(request, "contents", "read")
        base, _, head = ends.partition("...")
        git = repository.git
        for end in (base, head):
            if not git.git("rev-parse", "--verify", "--quiet", f"{end}^{{commit}}", check=False).strip():
                raise ApiError(404, "Not Found")
        listing = git.git("rev-list", "--reverse", "--topo-order", f"{base}..{head}").split()
        behind = git.git("rev-list", "--count", f"{head}..{base}").strip() != "0"
        status = ("diverged" if behind else "ahead") if listing else ("behind" if behind else "identical")
        size = min(int(request.query_params.get("per_page", 100)), 100)
        commits = [self._listed(repository, sha) for sha in listing[:size]]
        return {"status": status, "total_commits": len(listing), "commits": commits}

    def _listed(self, repository: Repository, sha: str) -> Json:
        shown = repository.git.git("show", "-s", "--format=%T%x00%P%x00%an%x00%ae%x00%cn%x00%ce%x00%B", sha)
        tree, parents, *who, message = shown.split("\0")
        users = [login_of(email) for email in (who[1], who[3])]
        found = [None if login is None else {"login": login} for login in users]
        return {
            "sha": sha,
            "parents": [{"sha": parent} for parent in parents.split()],
            "author": found[0],
            "committer": found[1],
            "commit": {
                "tree": {"sha": tree},
                "message": message.rstrip("\n"),
                "author": {"name": who[0], "email": who[1]},
                "committer": {"name": who[2], "email": who[3]},
                "verification": self._verification(repository, sha),
            },
        }

    @staticmethod
    def _verification(repository: Repository, sha: str) -> Json:
        verified = sha in repository.git.signed()
        return {"verified": verified, "reason": "valid" if verified else "unsigned", "signature": None, "payload": None}

    def _url(self, repository: Repository, kind: str, sha: str) -> str:
        return f"{self.rest.payloads.api}/repos/{repository.full_name}/git/{kind}/{sha}"
