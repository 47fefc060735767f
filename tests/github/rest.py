"""The REST calls that Troop makes, with GitHub's checks: who asks, what the token may, what the fields may hold."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jwt
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tests.github.payloads import Payloads, stamp
from tests.github.webhooks import Webhooks
from tests.github.world import PERMISSIONS, ApiError, Issue, Repository, Token, World

Json = dict[str, Any]


def authenticated(world: World, request: Request) -> Token:
    """The request's token. Raises `ApiError` (401)."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() not in ("token", "bearer") or not value:
        raise ApiError(401, "Requires authentication")
    return world.authenticate(value)


def check_jwt(world: World, request: Request) -> None:
    """The App's own signature, as GitHub checks it: RS256, not from the future, at most ten minutes."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise ApiError(401, "A JSON web token could not be decoded")
    try:
        required = ["exp", "iat", "iss"]
        claims = jwt.decode(value, world.app.public_key, algorithms=["RS256"], options={"require": required})
    except jwt.InvalidTokenError as error:
        raise ApiError(401, f"A JSON web token could not be decoded: {error}") from error
    if claims["exp"] - claims["iat"] > 660:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")
    if str(claims["iss"]) != str(world.app.id):
        raise ApiError(404, "Integration not found")


class Rest:
    """The API, below `/api/v3`."""

    def __init__(self, world: World, payloads: Payloads, webhooks: Webhooks) -> None:
        self.world = world
        self.payloads = payloads
        self.webhooks = webhooks
        self.router = APIRouter(prefix="/api/v3")
        here = "/repos/{owner}/{name}"
        for method, path, handler in (
            ("GET", "/app", self.app),
            ("POST", "/app/installations/{installation_id}/access_tokens", self.access_token),
            ("GET", "/app/hook/config", self.hook_config),
            ("GET", "/app/hook/deliveries", self.deliveries),
            ("POST", "/app/hook/deliveries/{delivery_id}/attempts", self.attempt),
            ("GET", "/user", self.me),
            ("GET", "/users/{login}", self.a_user),
            ("GET", here, self.repository),
            ("GET", here + "/installation", self.installation),
            ("GET", here + "/collaborators/{user}/permission", self.permission),
            ("GET", here + "/contents/{path:path}", self.contents),
            ("GET", here + "/git/ref/{ref:path}", self.ref),
            ("GET", here + "/rules/branches/{branch:path}", self.rules),
            ("GET", here + "/rulesets/{ruleset}", self.ruleset),
            ("GET", here + "/labels/{label:path}", self.label),
            ("POST", here + "/labels", self.create_label),
            ("GET", here + "/issues/comments/{comment_id}", self.comment),
            ("PATCH", here + "/issues/comments/{comment_id}", self.edit_comment),
            ("DELETE", here + "/issues/comments/{comment_id}", self.delete_comment),
            ("POST", here + "/issues/comments/{comment_id}/reactions", self.create_reaction),
            ("GET", here + "/issues/{number}", self.issue),
            ("PATCH", here + "/issues/{number}", self.edit_issue),
            ("GET", here + "/issues/{number}/comments", self.comments),
            ("POST", here + "/issues/{number}/comments", self.create_comment),
            ("GET", here + "/issues/{number}/labels", self.issue_labels),
            ("POST", here + "/issues/{number}/labels", self.add_labels),
            ("DELETE", here + "/issues/{number}/labels/{label:path}", self.remove_label),
            ("GET", here + "/pulls", self.pulls),
            ("POST", here + "/pulls", self.create_pull),
            ("GET", here + "/pulls/{number}", self.pull),
            ("PATCH", here + "/pulls/{number}", self.edit_pull),
        ):
            self.router.add_api_route(path, handler, methods=[method], response_model=None)

    # -- who asks, and for what

    def enter(self, request: Request, permission: str, level: str) -> tuple[Repository, Token]:
        """The repository and the token. 404 for what may not even be seen, 403 for what may not be done."""
        token = authenticated(self.world, request)
        repository = self.world.repository(f"{request.path_params['owner']}/{request.path_params['name']}")
        if token.installation:
            installation = self.world.installations[token.installation]
            may_see = token.repositories is None or repository.id in token.repositories
            may_see = may_see and installation.account == repository.owner
            excluded = repository.id in installation.excluded
            if not may_see or (excluded and repository.private):
                raise ApiError(404, "Not Found")
            if excluded and level == "write":  # else anybody may read it
                raise ApiError(403, "Resource not accessible by integration")
            if not token.allows(repository.id, permission, level):
                raise ApiError(403, "Resource not accessible by integration")
        else:
            role = self.world.permission(repository, token.user)
            if role == "none":
                raise ApiError(404, "Not Found")
            if level == "write" and PERMISSIONS.index(role) < PERMISSIONS.index("triage"):
                raise ApiError(403, "Must have push access to repository")
        if level == "write" and repository.archived:
            raise ApiError(403, "Repository was archived so is read-only.")
        return repository, token

    def enter_issue(self, request: Request, level: str) -> tuple[Repository, Issue, Token]:
        number = int(request.path_params["number"])
        token = authenticated(self.world, request)
        named = self.world.repository(f"{request.path_params['owner']}/{request.path_params['name']}")
        # Labels and comments of a pull request may be written with either permission.
        either = token.permissions is not None and not token.allows(named.id, "issues", level)
        repository, token = self.enter(request, "pull_requests" if either else "issues", level)
        issue = self.world.issue(repository, number)
        if either and not issue.pull:
            raise ApiError(403, "Resource not accessible by integration")
        return repository, issue, token

    # -- the App

    async def app(self, request: Request) -> Json:
        check_jwt(self.world, request)
        app = self.world.app
        count = len(self.world.installations)
        answer = {"id": app.id, "slug": app.slug, "name": app.slug, "permissions": app.permissions}
        return answer | {
            "events": app.events,
            "installations_count": count,
            "html_url": f"{self.payloads.web}/apps/{app.slug}",
        }

    async def access_token(self, request: Request, installation_id: int) -> Response:
        check_jwt(self.world, request)
        installation = self.world.installations.get(installation_id)
        if installation is None:
            raise ApiError(404, "Not Found")
        if installation.suspended:
            raise ApiError(403, "This installation has been suspended")
        wanted = (await request.json()) if await request.body() else {}
        permissions = wanted.get("permissions") or self.world.app.permissions
        for name, level in permissions.items():
            granted = self.world.app.permissions.get(name)
            if granted is None or (level == "write" and granted != "write"):
                raise ApiError(422, "The permissions requested are not granted to this installation.")
        own = [each for each in self.world.repositories.values() if each.owner == installation.account]
        names, numbers = wanted.get("repositories"), wanted.get("repository_ids")
        narrowed = names is not None or numbers is not None
        chosen = [each for each in own if each.name in (names or ()) or each.id in (numbers or ())] if narrowed else own
        asked = len(names or ()) + len(numbers or ())
        if narrowed and (len(chosen) < asked or any(each.id in installation.excluded for each in chosen)):
            raise ApiError(422, "There is at least one repository that does not exist or is not accessible.")
        token = self.world.mint(
            f"{self.world.app.slug}[bot]",
            installation=installation_id,
            repositories=frozenset(each.id for each in chosen),
            permissions={"metadata": "read"} | permissions,
        )
        answer = {"token": token.value, "expires_at": stamp(token.expires_at), "permissions": permissions}
        if narrowed:
            answer["repositories"] = [self.payloads.repository(each) for each in chosen]
        return JSONResponse(answer, 201)

    async def hook_config(self, request: Request) -> Json:
        check_jwt(self.world, request)
        return {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": self.webhooks.url}

    async def deliveries(self, request: Request, per_page: int = 30, cursor: str = "") -> Response:
        check_jwt(self.world, request)
        older = [d for d in reversed(self.webhooks.deliveries) if not cursor or d.id < int(cursor.removeprefix("v1_"))]
        page = older[: min(per_page, 100)]
        link = (
            f'<{request.url.include_query_params(cursor=f"v1_{page[-1].id}")}>; rel="next"'
            if older[len(page) :]
            else ""
        )
        return JSONResponse([self.webhooks.summary(each) for each in page], headers={"Link": link} if link else {})

    async def attempt(self, request: Request, delivery_id: int) -> Response:
        check_jwt(self.world, request)
        found = [d for d in self.webhooks.deliveries if d.id == delivery_id]
        if not found:
            raise ApiError(404, "Not Found")
        self.webhooks.redeliver(found[0].guid)
        return JSONResponse({}, 202)

    async def me(self, request: Request) -> Json:
        token = authenticated(self.world, request)
        if token.installation:
            raise ApiError(403, "Resource not accessible by integration")
        return self.payloads.user(token.user)

    async def a_user(self, request: Request, login: str) -> Json:
        authenticated(self.world, request)
        if login not in self.world.users:
            raise ApiError(404, "Not Found")
        return self.payloads.user(login)

    # -- the repository

    async def repository(self, request: Request) -> Json:
        repository, token = self.enter(request, "metadata", "read")
        return self.payloads.repository(repository, "" if token.installation else token.user)

    async def installation(self, request: Request) -> Json:
        check_jwt(self.world, request)
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        found = self.world.installation_of(name)
        if found is None or self.world.repository(name).id in found.excluded:
            raise ApiError(404, "Not Found")
        return {
            "id": found.id,
            "account": self.payloads.user(found.account),
            "app_id": self.world.app.id,
            "permissions": self.world.app.permissions,
            "suspended_at": stamp(self.world.now()) if found.suspended else None,
        }

    async def permission(self, request: Request, user: str) -> Json:
        repository, _ = self.enter(request, "metadata", "read")
        if user not in self.world.users:
            raise ApiError(404, f"{user} is not a user")
        role = self.world.permission(repository, user)
        legacy = {"triage": "read", "maintain": "write"}.get(role, role)
        return {"permission": legacy, "role_name": role, "user": self.payloads.user(user)}

    async def contents(self, request: Request, path: str) -> Json:
        repository, _ = self.enter(request, "contents", "read")
        if path not in repository.git.files():
            raise ApiError(404, "Not Found")
        blob = repository.git.git("rev-parse", f"refs/heads/{repository.git.branch}:{path}").strip()
        raw = repository.git.read(path).encode()
        content = base64.b64encode(raw).decode()
        return {"type": "file", "path": path, "sha": blob, "encoding": "base64", "content": content, "size": len(raw)}

    async def ref(self, request: Request, ref: str) -> Json:
        repository, _ = self.enter(request, "contents", "read")
        sha = repository.git.branches().get(ref.removeprefix("heads/"))
        if sha is None:
            raise ApiError(404, "Not Found")
        return {"ref": f"refs/{ref}", "object": {"type": "commit", "sha": sha}}

    async def rules(self, request: Request, branch: str) -> list[Json]:
        repository, _ = self.enter(request, "metadata", "read")
        return [] if branch == repository.git.branch else repository.rules

    async def ruleset(self, request: Request, ruleset: int) -> Json:
        repository, _ = self.enter(request, "metadata", "read")
        return {"id": ruleset, "name": "Guard", "current_user_can_bypass": repository.may_bypass}

    async def label(self, request: Request, label: str) -> Json:
        repository, _ = self.enter(request, "issues", "read")
        if label not in repository.labels:
            raise ApiError(404, "Not Found")
        return self.payloads.label(repository, label)

    async def create_label(self, request: Request) -> Response:
        repository, _ = self.enter(request, "issues", "write")
        fields = await request.json()
        if fields["name"] in repository.labels:
            error = {"resource": "Label", "code": "already_exists", "field": "name"}
            raise ApiError(422, "Validation Failed", [error])
        repository.labels[fields["name"]] = fields.get("color", "ededed")
        return JSONResponse(self.payloads.label(repository, fields["name"]), 201)

    # -- issues

    async def issue(self, request: Request) -> Json:
        repository, issue, _ = self.enter_issue(request, "read")
        return self.payloads.issue(repository, issue)

    async def edit_issue(self, request: Request) -> Json:
        repository, issue, token = self.enter_issue(request, "write")
        self.world.edit_issue(repository, issue, token.user, await request.json())
        return self.payloads.issue(repository, issue)

    async def comments(self, request: Request) -> Response:
        repository, issue, _ = self.enter_issue(request, "read")
        return self._page(request, [self.payloads.comment(repository, issue, c) for c in issue.comments])

    async def create_comment(self, request: Request) -> Response:
        repository, issue, token = self.enter_issue(request, "write")
        self._check_unlocked(issue, token)
        comment = self.world.comment(repository, issue, token.user, (await request.json())["body"])
        return JSONResponse(self.payloads.comment(repository, issue, comment), 201)

    async def comment(self, request: Request, comment_id: int) -> Json:
        repository, _ = self.enter(request, "issues", "read")
        return self.payloads.comment(repository, *self.world.find_comment(repository, comment_id))

    def _own_comment(self, request: Request, comment_id: int) -> tuple[Repository, Issue, Token]:
        repository, token = self.enter(request, "issues", "write")
        issue, comment = self.world.find_comment(repository, comment_id)
        if token.installation == 0 and comment.user != token.user:
            role = self.world.permission(repository, token.user)
            if PERMISSIONS.index(role) < PERMISSIONS.index("write"):
                raise ApiError(403, "Must have admin rights to Repository.")
        self.world.issue(repository, issue.number)
        self._check_unlocked(issue, token)
        return repository, issue, token

    @staticmethod
    def _check_unlocked(issue: Issue, token: Token) -> None:
        if issue.locked and token.installation:
            raise ApiError(403, "Unable to create comment because issue is locked.")

    async def edit_comment(self, request: Request, comment_id: int) -> Json:
        repository, issue, token = self._own_comment(request, comment_id)
        comment = self.world.edit_comment(repository, comment_id, token.user, (await request.json())["body"])
        return self.payloads.comment(repository, issue, comment)

    async def create_reaction(self, request: Request, comment_id: int) -> Response:
        repository, token = self.enter(request, "issues", "write")
        _, comment = self.world.find_comment(repository, comment_id)
        content = (await request.json())["content"]
        new = (token.user, content) not in comment.reactions
        comment.reactions.add((token.user, content))
        return JSONResponse({"id": comment.id, "content": content}, 201 if new else 200)

    async def delete_comment(self, request: Request, comment_id: int) -> Response:
        repository, _, token = self._own_comment(request, comment_id)
        self.world.delete_comment(repository, comment_id, token.user)
        return Response(status_code=204)

    async def issue_labels(self, request: Request) -> Response:
        repository, issue, _ = self.enter_issue(request, "read")
        return self._page(request, [self.payloads.label(repository, name) for name in issue.labels])

    async def add_labels(self, request: Request) -> list[Json]:
        repository, issue, token = self.enter_issue(request, "write")
        fields = await request.json()
        for name in fields["labels"] if isinstance(fields, dict) else fields:
            self.world.label(repository, issue, token.user, name)
        return [self.payloads.label(repository, name) for name in issue.labels]

    async def remove_label(self, request: Request, label: str) -> list[Json]:
        repository, issue, token = self.enter_issue(request, "write")
        self.world.unlabel(repository, issue, token.user, label)
        return [self.payloads.label(repository, name) for name in issue.labels]

    # -- pull requests

    async def pulls(self, request: Request) -> Response:
        repository, _ = self.enter(request, "pull_requests", "read")
        state = request.query_params.get("state", "open")
        owner, _, branch = request.query_params.get("head", "").partition(":")
        found = [
            issue
            for issue in reversed(repository.issues.values())
            if issue.pull
            and state in (issue.state, "all")
            and (not branch or (owner, branch) == (repository.owner, issue.pull.head))
        ]
        return self._page(request, [self.payloads.pull(repository, issue) for issue in found])

    async def create_pull(self, request: Request) -> Response:
        repository, token = self.enter(request, "pull_requests", "write")
        issue = self.world.open_pull(repository, token.user, await request.json())
        return JSONResponse(self.payloads.pull(repository, issue), 201)

    def _pull(self, request: Request, level: str) -> tuple[Repository, Issue, Token]:
        repository, token = self.enter(request, "pull_requests", level)
        issue = self.world.issue(repository, int(request.path_params["number"]))
        if not issue.pull:
            raise ApiError(404, "Not Found")
        return repository, issue, token

    async def pull(self, request: Request) -> Response:
        repository, issue, _ = self._pull(request, "read")
        if "diff" in request.headers.get("accept", ""):
            assert issue.pull is not None
            return Response(repository.git.diff(issue.pull.base, issue.pull.head), media_type="text/plain")
        return JSONResponse(self.payloads.pull(repository, issue))

    async def edit_pull(self, request: Request) -> Json:
        repository, issue, token = self._pull(request, "write")
        self.world.edit_issue(repository, issue, token.user, await request.json())
        return self.payloads.pull(repository, issue)

    def _page(self, request: Request, items: Sequence[Json]) -> Response:
        """One page of a list, with GitHub's `Link` header. `since` leaves out what was updated earlier."""
        query = request.query_params
        if since := query.get("since"):
            moment = datetime.fromisoformat(since)
            items = [i for i in items if datetime.fromisoformat(str(i["updated_at"])) >= moment]
        size, number = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        answer = JSONResponse(list(items[(number - 1) * size : number * size]))
        if number * size < len(items):
            url = f"{self.payloads.web}{request.url.path}"
            rest = "&".join(f"{k}={v}" for k, v in query.items() if k != "page")
            answer.headers["link"] = f'<{url}?{rest}&page={number + 1}>; rel="next"'
        return answer
