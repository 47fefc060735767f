"""What people and tests do on the test GitHub. Every method takes and gives JSON, so that it may be called from another
process too (`POST /control/METHOD` with the arguments as an object)."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.github.checks import ACTIONS, CheckRun, Checks, Status
from tests.github.faults import Fault, FaultsAndLog
from tests.github.payloads import Json, Payloads
from tests.github.repository import GitRepository, run_git
from tests.github.reviews import Reviews
from tests.github.upheavals import Upheavals
from tests.github.webhooks import Webhooks
from tests.github.world import PERMISSIONS, World


class Control(Upheavals):
    """One for a server. Users are made up as they are named."""

    def __init__(
        self,
        world: World,
        payloads: Payloads,
        webhooks: Webhooks,
        traffic: FaultsAndLog,
        reviews: Reviews,
        checks: Checks,
    ) -> None:
        self.reviews = reviews
        self.checks = checks
        self.world = world
        self.payloads = payloads
        self.webhooks = webhooks
        self.traffic = traffic

    def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """The method by name. Raises `LookupError` or `TypeError`."""
        if method.startswith("_") or method == "call" or not inspect.ismethod(getattr(self, method, None)):
            raise LookupError(f"no such control: {method}")
        return getattr(self, method)(**arguments)

    # -- repositories and people

    def create_repository(self, name: str, files: Mapping[str, Any] | None = None, folder: str = "") -> Json:
        """`name` is `owner/name`; its first commit has the `files` (see `GitRepository.commit_files`), or what git
        tracks, else what lies, in the `folder`."""
        git = GitRepository(self.world.data / f"{name}.git")
        repository = self.world.create_repository(name, git)
        if folder:
            env = {"GIT_DIR": str(git.path), "GIT_WORK_TREE": folder}
            env["GIT_INDEX_FILE"] = str(git.path / "index")
            run_git("add", "--all", cwd=Path(folder), **env)
            tree = run_git("write-tree", cwd=Path(folder), **env).strip()
            git.commit_tree(tree, "Begin", git.branch, None)
        elif files:
            git.commit_files(files, "Begin")
        return self.payloads.repository(repository)

    def commit(self, name: str, files: Mapping[str, Any], message: str = "Change", branch: str = "") -> str:
        return self.world.repository(name).git.commit_files(files, message, branch)

    def set_permission(self, name: str, user: str, permission: str) -> None:
        assert permission in PERMISSIONS
        self.world.user(user)
        self.world.repository(name).permissions[user] = permission

    def create_token(self, user: str) -> str:
        """A personal access token: may all that the user may."""
        self.world.user(user)
        return self.world.mint(user).value

    def expire_tokens(self) -> None:
        for token in self.world.tokens.values():
            token.expires_at = self.world.now()

    def installation_id(self, name: str) -> int:
        installation = self.world.installation_of(name)
        assert installation is not None
        return installation.id

    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    # -- issues

    def open_issue(self, name: str, title: str, body: str = "", user: str = "reporter") -> int:
        return self.world.open_issue(self.world.repository(name), user, title, body).number

    def edit_issue(self, name: str, number: int, user: str = "reporter", **changes: str) -> None:
        repository = self.world.repository(name)
        self.world.edit_issue(repository, self.world.issue(repository, number), user, changes)

    def label(self, name: str, number: int, label: str = "troop", user: str = "") -> None:
        repository = self.world.repository(name)
        self.world.label(repository, self.world.issue(repository, number), user or repository.owner, label)

    def unlabel(self, name: str, number: int, label: str = "troop", user: str = "") -> None:
        repository = self.world.repository(name)
        self.world.unlabel(repository, self.world.issue(repository, number), user or repository.owner, label)

    def assign(self, name: str, number: int, assignee: str, user: str = "", *, to: bool = True) -> None:
        """Assign the issue, or with `to` false no longer."""
        repository = self.world.repository(name)
        self.world.assign(repository, self.world.issue(repository, number), user or repository.owner, assignee, to=to)

    def comment(self, name: str, number: int, body: str, user: str = "") -> int:
        repository = self.world.repository(name)
        issue = self.world.issue(repository, number)
        return self.world.comment(repository, issue, user or repository.owner, body).id

    def edit_comment(self, name: str, comment_id: int, body: str, user: str = "") -> None:
        repository = self.world.repository(name)
        self.world.edit_comment(repository, comment_id, user or repository.owner, body)

    def tick(self, name: str, number: int, box: str, user: str) -> None:
        """Tick the box with that text, in whichever comment has it, as a click on it does."""
        repository = self.world.repository(name)
        for comment in self.world.issue(repository, number).comments:
            if f"- [ ] {box}" in comment.body:
                self.world.edit_comment(
                    repository, comment.id, user, comment.body.replace(f"- [ ] {box}", f"- [x] {box}")
                )
                return
        raise LookupError(f"there is no box {box!r} to tick")

    def delete_comment(self, name: str, comment_id: int, user: str = "") -> None:
        repository = self.world.repository(name)
        self.world.delete_comment(repository, comment_id, user or repository.owner)

    def issue(self, name: str, number: int) -> Json:
        """As the API gives it, with its comments; `labels` as names."""
        repository = self.world.repository(name)
        issue = self.world.issue(repository, number)
        answer = self.payloads.issue(repository, issue)
        comments = [self.payloads.comment(repository, issue, comment) for comment in issue.comments]
        return answer | {"comments": comments, "labels": list(issue.labels)}

    def comments(self, name: str, number: int) -> list[str]:
        """The bodies."""
        return [comment["body"] for comment in self.issue(name, number)["comments"]]

    def pull_requests(self, name: str) -> list[Json]:
        """As the API gives them, oldest first, with their `diff`."""
        repository = self.world.repository(name)
        found = []
        for issue in repository.issues.values():
            if issue.pull:
                diff = repository.git.diff(issue.pull.base, issue.pull.head)
                found.append(self.payloads.pull(repository, issue) | {"diff": diff})
        return found

    def review(
        self,
        name: str,
        number: int,
        state: str = "CHANGES_REQUESTED",
        body: str = "",
        comments: Sequence[Mapping[str, Any]] = (),
        user: str = "",
    ) -> int:
        """Submit a review; each comment has `body`, `path` and `line`, or `body` and `in_reply_to`."""
        repository = self.world.repository(name)
        issue = self.world.issue(repository, number)
        return self.reviews.submit(repository, issue, user or repository.owner, state, body, comments).id

    def review_comments(self, name: str, number: int) -> list[Json]:
        """As the API lists them, replies included."""
        repository = self.world.repository(name)
        return self.reviews.of(repository, self.world.issue(repository, number))

    def check(
        self,
        name: str,
        commit: str,
        check: str,
        conclusion: str = "failure",
        *,
        branch: str = "",
        log: str = "",
        app: str = ACTIONS,
        summary: str = "",
        annotations: Sequence[Mapping[str, Any]] = (),
        event: str = "check_suite",
        started: bool = True,
    ) -> int:
        """A check run of the commit ends, or with an empty conclusion begins; its id."""
        run = CheckRun(
            self.world.next_id(),
            commit,
            check,
            conclusion,
            app,
            summary,
            log,
            [dict(one) for one in annotations],
            started,
        )
        self.checks.report(self.world.repository(name), branch, run, event)
        return run.id

    def set_status(self, name: str, commit: str, context: str, state: str, branch: str = "", text: str = "") -> None:
        status = Status(self.world.next_id(), commit, context, state, text)
        self.checks.set_status(self.world.repository(name), branch, status)

    def check_runs(self, name: str, commit: str) -> list[Json]:
        """The commit's check runs that the App made, as the API gives them."""
        return [one for one in self.world.repository(name).check_runs if one["head_sha"] == commit]

    def branches(self, name: str) -> dict[str, str]:
        return self.world.repository(name).git.branches()

    def read_file(self, name: str, path: str, branch: str = "") -> str:
        return self.world.repository(name).git.read(path, branch)

    # -- webhooks, faults, the log

    def set_hook(self, url: str, secret: str = "") -> None:
        self.webhooks.url, self.webhooks.secret = url, secret

    def deliveries(self) -> list[Json]:
        return [self.webhooks.summary(delivery) for delivery in self.webhooks.deliveries]

    def redeliver(self, guid: str) -> None:
        self.webhooks.redeliver(guid)

    def settle(self) -> None:
        self.webhooks.settle()

    def ping(self) -> None:
        self.webhooks.send("ping", "", {"zen": "Half measures are as bad as nothing at all.", "hook_id": 1})

    def fault(self, method: str, path: str, **answer: Any) -> None:
        """Program a fault: see `Fault`. Method `*` is any; the path is a regular expression."""
        self.traffic.faults.append(Fault(method, path, **answer))

    def rate_limit(self, method: str, path: str, seconds: int, times: int = 1) -> None:
        """The secondary rate limit, as GitHub words it."""
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        headers = {"retry-after": str(seconds)}
        self.fault(method, path, status=403, headers=headers, message=message, times=times)

    def clear_faults(self) -> None:
        self.traffic.faults.clear()

    def writes(self) -> int:
        """How many of the API's writes succeeded."""
        return len(self.traffic.written())
