"""Pages to look at, and forms to play with: labels, comments, closing. Everything is escaped; nothing is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from tests.github.markdown import render
from tests.github.payloads import Payloads
from tests.github.webhooks import Webhooks
from tests.github.world import ApiError, Issue, Repository, World


@dataclass
class DiffFile:
    """One file of a diff: its name and its lines with a class each."""

    name: str
    lines: list[tuple[str, str]]

    @property
    def added(self) -> int:
        return sum(kind == "add" for kind, _ in self.lines)

    @property
    def removed(self) -> int:
        return sum(kind == "del" for kind, _ in self.lines)


def split_diff(diff: str) -> Iterator[DiffFile]:
    current: DiffFile | None = None
    for line in diff.splitlines():
        if line.startswith("diff --git "):
            if current:
                yield current
            current = DiffFile(line.split(" b/", 1)[-1], [])
        elif current is not None:
            kind = {"+": "add", "-": "del", "@": "hunk", " ": "same"}.get(line[:1], "meta")
            if line.startswith(("+++", "---", "index ")):
                continue
            current.lines.append((kind, line))
    if current:
        yield current


class Pages:
    def __init__(self, world: World, payloads: Payloads, webhooks: Webhooks) -> None:
        self.world = world
        self.payloads = payloads
        self.webhooks = webhooks
        self.router = APIRouter()
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["markdown"] = lambda text: Markup(render(text))
        for method, path, handler in (
            ("GET", "/", self.home),
            ("GET", "/{owner}/{name}", self.repository),
            ("GET", "/{owner}/{name}/blob/{branch_and_path:path}", self.blob),
            ("GET", "/{owner}/{name}/issues/{number}", self.issue),
            ("GET", "/{owner}/{name}/pull/{number}", self.issue),
            ("POST", "/{owner}/{name}/issues", self.act),
            ("POST", "/{owner}/{name}/issues/{number}", self.act),
        ):
            self.router.add_api_route(path, handler, methods=[method], response_model=None)

    def show(self, template: str, **values: Any) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
        headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
        return HTMLResponse(self.templates.get_template(template).render(**values), headers=headers)

    def _repository(self, request: Request) -> Repository:
        return self.world.repository(f"{request.path_params['owner']}/{request.path_params['name']}")

    async def home(self) -> Response:
        deliveries = list(reversed(self.webhooks.deliveries[-50:]))
        repositories = list(self.world.repositories.values())
        return self.show("home.html", title="Test GitHub", repositories=repositories, deliveries=deliveries)

    async def repository(self, request: Request) -> Response:
        repository = self._repository(request)
        issues = [issue for issue in reversed(repository.issues.values()) if not issue.pull]
        pulls = [issue for issue in reversed(repository.issues.values()) if issue.pull]
        return self.show(
            "repository.html",
            title=repository.full_name,
            repository=repository,
            issues=issues,
            pulls=pulls,
            files=repository.git.files(),
            branches=repository.git.branches(),
            users=self.users(repository),
        )

    async def blob(self, request: Request, branch_and_path: str) -> Response:
        repository = self._repository(request)
        for branch in repository.git.branches():
            path = branch_and_path.removeprefix(f"{branch}/")
            if path != branch_and_path and path in repository.git.files(branch):
                text = repository.git.read(path, branch)[:200_000]
                return self.show("blob.html", title=path, repository=repository, branch=branch, path=path, text=text)
        raise ApiError(404, "Not Found")

    async def issue(self, request: Request, number: int) -> Response:
        repository = self._repository(request)
        issue = self.world.issue(repository, number)
        diff = list(split_diff(repository.git.diff(issue.pull.base, issue.pull.head))) if issue.pull else []
        return self.show(
            "issue.html",
            title=f"{issue.title} · {repository.full_name} #{issue.number}",
            repository=repository,
            issue=issue,
            diff=diff,
            users=self.users(repository),
            labels=sorted({*repository.labels, "troop"} - set(issue.labels)),
        )

    def users(self, repository: Repository) -> list[tuple[str, str]]:
        """People, with their permission: who a form may act as."""
        people = [user.login for user in self.world.users.values() if user.type == "User"]
        return [(login, self.world.permission(repository, login)) for login in people]

    async def act(self, request: Request, number: int = 0) -> Response:
        """What the forms post."""
        origin = request.headers.get("origin", "")
        if origin not in ("", "null") and urlsplit(origin).netloc != request.headers.get("host"):
            raise ApiError(403, "The form comes from another site")
        fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        repository = self._repository(request)
        user = fields.get("user", repository.owner)
        if not number:
            opened = self.world.open_issue(repository, user, fields.get("title", "(no title)"), fields.get("body", ""))
            return self._back(repository, opened)
        issue = self.world.issue(repository, number)
        match fields.get("action"):
            case "comment" if fields.get("body"):
                self.world.comment(repository, issue, user, fields["body"])
            case "label":
                self.world.label(repository, issue, user, fields["label"])
            case "unlabel":
                self.world.unlabel(repository, issue, user, fields["label"])
            case "close":
                self.world.edit_issue(repository, issue, user, {"state": "closed"})
            case "reopen":
                self.world.edit_issue(repository, issue, user, {"state": "open"})
        return self._back(repository, issue)

    def _back(self, repository: Repository, issue: Issue) -> Response:
        kind = "pull" if issue.pull else "issues"
        return RedirectResponse(f"/{repository.full_name}/{kind}/{issue.number}", 303)
