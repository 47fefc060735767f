"""The JSON that GitHub's REST API and webhooks speak, as far as Troop and PyGithub read it."""

from datetime import datetime
from typing import Any

from tests.github.world import PERMISSIONS, Comment, Issue, Repository, User, World

Json = dict[str, Any]


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Payloads:
    """Serialises; `web` is the server's address, below which the API is at `/api/v3`, as on GitHub Enterprise."""

    def __init__(self, world: World, web: str) -> None:
        self.world = world
        self.web = web
        self.api = f"{web}/api/v3"

    def user(self, login: str) -> Json:
        user: User = self.world.user(login)
        return {
            "login": user.login,
            "id": user.id,
            "type": user.type,
            "site_admin": False,
            "url": f"{self.api}/users/{user.login}",
            "html_url": f"{self.web}/{user.login}",
        }

    def repository(self, repository: Repository, user: str = "") -> Json:
        """`user`: who asks, for their `permissions`."""
        role = PERMISSIONS.index(self.world.permission(repository, user)) if user else 0
        shown = {"pull": "read", "triage": "triage", "push": "write", "maintain": "maintain", "admin": "admin"}
        permissions = {name: role >= PERMISSIONS.index(least) for name, least in shown.items()}
        return ({"permissions": permissions} if user else {}) | {
            "id": repository.id,
            "name": repository.name,
            "full_name": repository.full_name,
            "owner": self.user(repository.owner),
            "private": repository.private,
            "archived": repository.archived,
            "fork": repository.fork,
            "has_issues": repository.has_issues,
            "default_branch": repository.git.branch,
            "url": f"{self.api}/repos/{repository.full_name}",
            "html_url": f"{self.web}/{repository.full_name}",
            "clone_url": f"{self.web}/{repository.full_name}.git",
        }

    def label(self, repository: Repository, name: str) -> Json:
        return {
            "id": repository.id * 1000 + list(repository.labels).index(name),
            "name": name,
            "color": repository.labels[name],
            "default": False,
            "url": f"{self.api}/repos/{repository.full_name}/labels/{name}",
        }

    def issue(self, repository: Repository, issue: Issue) -> Json:
        url = f"{self.api}/repos/{repository.full_name}/issues/{issue.number}"
        page = f"{self.web}/{repository.full_name}/{'pull' if issue.pull else 'issues'}/{issue.number}"
        answer = {
            "id": repository.id * 100_000 + issue.number,
            "number": issue.number,
            "title": issue.title,
            "body": issue.body,
            "state": issue.state,
            "locked": issue.locked,
            "user": self.user(issue.user),
            "author_association": self.association(repository, issue.user),
            "labels": [self.label(repository, name) for name in issue.labels],
            "assignees": [self.user(login) for login in issue.assignees],
            "comments": len(issue.comments),
            "created_at": stamp(issue.created_at),
            "updated_at": stamp(issue.updated_at),
            "url": url,
            "comments_url": f"{url}/comments",
            "labels_url": f"{url}/labels{{/name}}",
            "html_url": page,
            "repository_url": f"{self.api}/repos/{repository.full_name}",
        }
        if issue.pull:
            pulls = f"{self.api}/repos/{repository.full_name}/pulls/{issue.number}"
            answer["pull_request"] = {"url": pulls, "html_url": page}
        return answer

    def association(self, repository: Repository, login: str) -> str:
        """As GitHub tells it: no permission can be read from it."""
        return "OWNER" if login == repository.owner else "CONTRIBUTOR"

    def comment(self, repository: Repository, issue: Issue, comment: Comment) -> Json:
        base = f"{self.api}/repos/{repository.full_name}/issues"
        app = {"id": self.world.app.id, "slug": self.world.app.slug}
        return {
            "id": comment.id,
            "body": comment.body,
            "user": self.user(comment.user),
            "author_association": self.association(repository, comment.user),
            "created_at": stamp(comment.created_at),
            "updated_at": stamp(comment.updated_at),
            "url": f"{base}/comments/{comment.id}",
            "issue_url": f"{base}/{issue.number}",
            "html_url": f"{self.issue(repository, issue)['html_url']}#issuecomment-{comment.id}",
            "performed_via_github_app": app if comment.user == f"{app['slug']}[bot]" else None,
        }

    def pull(self, repository: Repository, issue: Issue) -> Json:
        assert issue.pull is not None
        pull = issue.pull

        def side(branch: str, sha: str | None) -> Json:
            return {
                "ref": branch,
                "sha": sha or "",
                "label": f"{repository.owner}:{branch}",
                "user": self.user(repository.owner),
                "repo": self.repository(repository),
            }

        head = repository.git.commit_of(pull.head) or pull.closed_head
        return self.issue(repository, issue) | {
            "url": f"{self.api}/repos/{repository.full_name}/pulls/{issue.number}",
            "issue_url": f"{self.api}/repos/{repository.full_name}/issues/{issue.number}",
            "draft": pull.draft,
            "merged": pull.merged,
            "head": side(pull.head, head),
            "base": side(pull.base, repository.git.commit_of(pull.base)),
        }

    def event(
        self,
        event: str,
        action: str,
        repository: Repository,
        issue: Issue,
        comment: Comment | None,
        sender: str,
        extra: Json,
    ) -> Json:
        """The body of a webhook."""
        body: Json = {
            "action": action,
            "repository": self.repository(repository),
            "sender": self.user(sender),
        }
        installation = self.world.installation_of(repository.full_name)
        if installation is not None:
            body["installation"] = {"id": installation.id, "node_id": f"I_{installation.id}"}
        if event.startswith("pull_request"):
            body |= {"number": issue.number, "pull_request": self.pull(repository, issue)}
        else:
            body["issue"] = self.issue(repository, issue)
        if comment is not None:
            body["comment"] = self.comment(repository, issue, comment)
        if "label" in extra:
            body["label"] = self.label(repository, extra["label"])
        if "assignee" in extra:
            body["assignee"] = self.user(extra["assignee"])
        return body | {name: value for name, value in extra.items() if name not in ("label", "assignee")}
