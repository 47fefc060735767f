"""Checks of commits: check runs as Actions and other Apps report them, statuses, logs; and their webhooks."""

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.github.payloads import Json, Payloads, stamp
from tests.github.webhooks import Webhooks
from tests.github.world import ApiError, Repository, World

ACTIONS = "github-actions"
WAITING = "waiting"  # for a person; in the place of a conclusion


@dataclass
class CheckRun:
    id: int
    sha: str
    name: str
    conclusion: str  # "" while it runs
    app: str
    summary: str
    log: str
    annotations: list[Json] = field(default_factory=list)
    started: bool = True  # else GitHub let it fail without running it


@dataclass
class Status:
    id: int
    sha: str
    context: str
    state: str
    description: str


class Checks:
    """Of all repositories, by name."""

    def __init__(self, world: World, payloads: Payloads, webhooks: Webhooks) -> None:
        self.world = world
        self.payloads = payloads
        self.webhooks = webhooks
        self.runs: dict[str, list[CheckRun]] = {}
        self.statuses: dict[str, list[Status]] = {}

    def clear(self) -> None:
        self.runs.clear()
        self.statuses.clear()

    # -- what happens

    def report(self, repository: Repository, branch: str, run: CheckRun, event: str) -> None:
        """Put the run in place of an earlier one of its name, and tell of `event` where it is completed."""
        kept = [
            each for each in self.runs.get(repository.full_name, []) if (each.sha, each.name) != (run.sha, run.name)
        ]
        self.runs[repository.full_name] = [*kept, run]
        if run.conclusion in ("", WAITING):
            return
        about = {"id": run.id, "head_sha": run.sha, "status": "completed", "conclusion": run.conclusion}
        about |= {"check_suite": {"head_branch": branch}} if event == "check_run" else {"head_branch": branch}
        self._tell(event, repository, {"action": "completed", event: about})

    def set_status(self, repository: Repository, branch: str, status: Status) -> None:
        self.statuses.setdefault(repository.full_name, []).append(status)
        branches = [{"name": branch, "commit": {"sha": status.sha}}]
        about = {"id": status.id, "sha": status.sha, "state": status.state, "context": status.context}
        self._tell("status", repository, about | {"branches": branches})

    def _tell(self, event: str, repository: Repository, body: Json) -> None:
        installation = self.world.installation_of(repository.full_name)
        assert installation is not None
        sender = self.payloads.user(f"{ACTIONS}[bot]")
        common = {"repository": self.payloads.repository(repository), "sender": sender}
        self.webhooks.send(
            event, str(body.get("action", "")), body | common | {"installation": {"id": installation.id}}
        )

    # -- as JSON

    def shown(self, repository: Repository, run: CheckRun) -> Json:
        output = {
            "title": run.name if run.summary else None,
            "summary": run.summary,
            "text": None,
            "annotations_count": len(run.annotations),
        }
        return {
            "id": run.id,
            "name": run.name,
            "head_sha": run.sha,
            "status": "waiting" if run.conclusion == WAITING else "completed" if run.conclusion else "in_progress",
            "conclusion": None if run.conclusion == WAITING else run.conclusion or None,
            "app": {"id": 15368 if run.app == ACTIONS else 7, "slug": run.app},
            "details_url": f"{self.payloads.web}/{repository.full_name}/runs/{run.id}",
            "output": output,
        }


class CheckRoutes:
    """The REST calls; `rest` has the checks of who asks."""

    def __init__(self, rest: Any, checks: Checks) -> None:
        self.rest = rest
        self.checks = checks
        here = "/repos/{owner}/{name}"
        for path, handler in (
            (here + "/commits/{sha}/check-runs", self.of_commit),
            (here + "/commits/{sha}/status", self.status),
            (here + "/check-runs/{run_id}/annotations", self.annotations),
            (here + "/actions/jobs/{run_id}", self.job),
            (here + "/actions/jobs/{run_id}/logs", self.log),
        ):
            rest.router.add_api_route(path, handler, methods=["GET"], response_model=None)

    def _run(self, request: Request, permission: str, run_id: int) -> CheckRun:
        repository, _ = self.rest.enter(request, permission, "read")
        for run in self.checks.runs.get(repository.full_name, []):
            if run.id == run_id:
                return run
        raise ApiError(404, "Not Found")

    async def of_commit(self, request: Request, sha: str) -> Json:
        repository, _ = self.rest.enter(request, "checks", "read")
        query = request.query_params
        reported = [self.checks.shown(repository, run) for run in self.checks.runs.get(repository.full_name, [])]
        found = [
            run
            for run in (*reported, *repository.check_runs)
            if run["head_sha"] == sha
            and query.get("check_name", run["name"]) == run["name"]
            and query.get("app_id", str(run["app"]["id"])) == str(run["app"]["id"])
        ]
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        return {"total_count": len(found), "check_runs": found[(page - 1) * size : page * size]}

    async def status(self, request: Request, sha: str) -> Json:
        repository, _ = self.rest.enter(request, "statuses", "read")
        newest = {each.context: each for each in self.checks.statuses.get(repository.full_name, []) if each.sha == sha}
        shown = [
            {
                "id": each.id,
                "context": each.context,
                "state": each.state,
                "description": each.description,
                "target_url": f"https://ci.example.com/{each.id}",
                "updated_at": stamp(self.checks.world.now()),
            }
            for each in newest.values()
        ]
        return {"sha": sha, "state": "failure", "total_count": len(shown), "statuses": shown}

    async def annotations(self, request: Request, run_id: int) -> Response:
        return JSONResponse(self._run(request, "checks", run_id).annotations)

    async def job(self, request: Request, run_id: int) -> Json:
        run = self._run(request, "actions", run_id)
        if run.app != ACTIONS:
            raise ApiError(404, "Not Found")
        steps = [{"name": "Run tests", "number": 1, "conclusion": run.conclusion}] if run.started else []
        return {"id": run.id, "name": run.name, "conclusion": run.conclusion, "runner_id": len(steps), "steps": steps}

    async def log(self, request: Request, run_id: int) -> Response:
        run = self._run(request, "actions", run_id)
        if run.app != ACTIONS:
            raise ApiError(404, "Not Found")
        # Elsewhere, and without credentials, as GitHub's storage.
        return RedirectResponse(f"{self.checks.payloads.web}/storage/{run.id}.txt", 302)

    async def stored(self, request: Request, name: str) -> Response:
        assert "authorization" not in request.headers, "the token stays with the API"
        found = [run for runs in self.checks.runs.values() for run in runs if f"{run.id}.txt" == name]
        return Response(found[0].log if found else "", media_type="text/plain")
