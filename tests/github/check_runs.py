"""Check runs that the App makes and updates, with GitHub's checks of the fields; `tests.github.checks` lists them."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tests.github.world import BODY_LIMIT, ApiError, Repository, Token

Json = dict[str, Any]
CONCLUSIONS = ("action_required", "cancelled", "failure", "neutral", "success", "skipped", "stale", "timed_out")


class CheckRunRoutes:
    """The REST calls; `rest` has the checks of who asks."""

    def __init__(self, rest: Any) -> None:
        self.rest = rest
        here = "/repos/{owner}/{name}"
        for method, path, handler in (
            ("POST", here + "/check-runs", self.create),
            ("PATCH", here + "/check-runs/{check_id}", self.update),
        ):
            rest.router.add_api_route(path, handler, methods=[method], response_model=None)

    async def create(self, request: Request) -> Response:
        repository, token = self.rest.enter(request, "checks", "write")
        self._check_app(token)
        body = await request.json()
        if not body.get("name"):
            raise ApiError(422, 'Invalid request.\n\n"name" wasn\'t supplied.')
        sha = body.get("head_sha", "")
        if not repository.git.git("rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}", check=False).strip():
            raise ApiError(422, f"No commit found for SHA: {sha}")
        app = self.rest.world.app
        made = {"id": self.rest.world.next_id(), "app": {"id": app.id, "slug": app.slug}, "head_sha": sha}
        made |= {"name": body["name"], "status": "queued", "conclusion": None}
        repository.check_runs.append(made)
        try:
            self._fill(made, body)
        except ApiError:
            repository.check_runs.remove(made)
            raise
        return JSONResponse(made, 201)

    async def update(self, request: Request, check_id: int) -> Json:
        repository, token = self.rest.enter(request, "checks", "write")
        self._check_app(token)
        made = _find(repository, check_id)
        self._fill(made, await request.json())
        return made

    @staticmethod
    def _check_app(token: Token) -> None:
        if not token.installation:
            raise ApiError(403, "You must authenticate via a GitHub App.")

    @staticmethod
    def _fill(made: Json, body: Json) -> None:
        output = body.get("output")
        if output is not None and not (output.get("title") and output.get("summary")):
            raise ApiError(422, 'Invalid request.\n\n"title", "summary" weren\'t supplied.')
        if output is not None and any(len(output.get(part, "")) > BODY_LIMIT - 1 for part in ("summary", "text")):
            raise ApiError(422, "Only 65535 characters are allowed")
        if body.get("conclusion") is not None and body["conclusion"] not in CONCLUSIONS:
            raise ApiError(422, "Invalid request.\n\nconclusion is not a member of the list")
        if body.get("status") == "completed" and not body.get("conclusion"):
            raise ApiError(422, 'Invalid request.\n\n"conclusion" wasn\'t supplied.')
        made |= {name: body[name] for name in ("status", "conclusion", "output", "details_url") if name in body}


def _find(repository: Repository, check_id: int) -> Json:
    for one in repository.check_runs:
        if one["id"] == check_id:
            return one
    raise ApiError(404, "Not Found")
