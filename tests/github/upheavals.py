"""What owners and maintainers do to a repository, its installation and its issues while something works on them."""

from collections.abc import Mapping
from typing import Any

from tests.github.payloads import Payloads
from tests.github.webhooks import Webhooks
from tests.github.world import Repository, World


class Upheavals:
    """Part of `Control`."""

    world: World
    payloads: Payloads
    webhooks: Webhooks

    # -- the installation

    def suspend(self, name: str, suspended: bool = True) -> None:
        installation = self.world.installation_of(name)
        assert installation is not None
        installation.suspended = suspended
        self._tell(name, "installation", "suspend" if suspended else "unsuspend")

    def uninstall(self, name: str) -> None:
        """The owner's installation is gone, with its tokens."""
        installation = self.world.installation_of(name)
        assert installation is not None
        del self.world.installations[installation.id]
        self._tell(name, "installation", "deleted", installation.id)

    def install(self, name: str) -> int:
        """The owner of the repository installs the App anew; the installation's number."""
        return self.world.install(name.split("/")[0]).id

    def exclude(self, name: str, excluded: bool = True) -> None:
        """The repository is no longer, or again, among those that the installation may see."""
        installation = self.world.installation_of(name)
        assert installation is not None
        (installation.excluded.add if excluded else installation.excluded.discard)(self.world.repository(name).id)
        self._tell(name, "installation_repositories", "removed" if excluded else "added", installation.id)

    def _tell(self, name: str, event: str, action: str, installation: int = 0) -> None:
        found = self.world.installation_of(name)
        body = {"action": action, "installation": {"id": installation or (found.id if found else 0)}}
        self.webhooks.send(event, action, body | {"sender": self.payloads.user(name.split("/")[0])})

    # -- the repository

    def rename(self, name: str, new: str) -> None:
        """The repository is `new` from now on; the old name leads there until another takes it."""
        repository = self.world.repositories.pop(name)
        repository.full_name = new
        self.world.repositories[new] = repository
        self.world.moved[name] = new
        path = self.world.data / f"{new}.git"
        path.parent.mkdir(exist_ok=True)
        repository.git.path = repository.git.path.rename(path)

    def delete_repository(self, name: str) -> None:
        del self.world.repositories[name]

    def set_repository(self, name: str, **settings: bool) -> None:
        """`private`, `archived`, `drafts`, `fork`, `has_issues`."""
        for key, value in settings.items():
            assert key in ("private", "archived", "drafts", "fork", "has_issues")
            setattr(self.world.repository(name), key, value)

    def set_rules(self, name: str, *rules: Mapping[str, Any], may_bypass: str = "never") -> None:
        """A ruleset for all branches but the default one, whose rules have a `type` and mostly `parameters`."""
        repository = self.world.repository(name)
        repository.may_bypass = may_bypass
        of = {"ruleset_id": 42, "ruleset_source": name, "ruleset_source_type": "Repository"}
        repository.rules = [of | dict(rule) for rule in rules]

    # -- branches

    def delete_branch(self, name: str, branch: str) -> None:
        """As GitHub does, its pull requests are closed."""
        repository = self.world.repository(name)
        repository.git.git("update-ref", "-d", f"refs/heads/{branch}")
        for issue in repository.issues.values():
            if issue.pull and branch in (issue.pull.head, issue.pull.base) and issue.state == "open":
                self.world.edit_issue(repository, issue, repository.owner, {"state": "closed"})

    def rename_branch(self, name: str, branch: str, new: str) -> None:
        repository = self.world.repository(name)
        repository.git.git("branch", "-m", branch, new)
        if repository.git.branch == branch:
            repository.git.branch = new
        for issue in repository.issues.values():
            if issue.pull and issue.pull.base == branch:
                issue.pull.base = new

    def rewrite_branch(self, name: str, branch: str) -> str:
        """Force-push the branch's files as one commit without a parent; the commit."""
        git = self.world.repository(name).git
        tree = git.git("rev-parse", f"refs/heads/{branch}^{{tree}}").strip()
        return git.commit_tree(tree, "Rewritten", branch, None)

    # -- issues and pull requests

    def lock(self, name: str, number: int, locked: bool = True, user: str = "") -> None:
        """Only people with write access may comment then; an App may not."""
        repository, issue = self._issue(name, number)
        issue.locked = locked
        self._told(repository, number, "locked" if locked else "unlocked", user)

    def delete_issue(self, name: str, number: int, user: str = "") -> None:
        repository, issue = self._issue(name, number)
        self._told(repository, number, "deleted", user)
        issue.gone = True

    def transfer_issue(self, name: str, number: int, to: str, user: str = "") -> int:
        """Its number in the other repository, to which the old one leads."""
        repository, issue = self._issue(name, number)
        made = self.world.open_issue(self.world.repository(to), issue.user, issue.title, issue.body)
        self._told(repository, number, "transferred", user)
        issue.moved_to = f"/repos/{to}/issues/{made.number}"
        return made.number

    def convert_to_discussion(self, name: str, number: int, user: str = "") -> None:
        """The issue is closed and locked, and goes on elsewhere."""
        repository, issue = self._issue(name, number)
        issue.locked = True
        self.world.edit_issue(repository, issue, user or repository.owner, {"state": "closed"})

    def merge(self, name: str, number: int, user: str = "") -> None:
        repository, issue = self._issue(name, number)
        assert issue.pull is not None
        git = repository.git
        git.git("update-ref", f"refs/heads/{issue.pull.base}", git.commit_of(issue.pull.head) or "")
        issue.pull.merged = True
        self.world.edit_issue(repository, issue, user or repository.owner, {"state": "closed"})

    def set_draft(self, name: str, number: int, draft: bool) -> None:
        _, issue = self._issue(name, number)
        assert issue.pull is not None
        issue.pull.draft = draft

    def _issue(self, name: str, number: int) -> tuple[Repository, Any]:
        repository = self.world.repository(name)
        return repository, self.world.issue(repository, number)

    def _told(self, repository: Repository, number: int, action: str, user: str) -> None:
        issue = self.world.issue(repository, number)
        event = "pull_request" if issue.pull else "issues"
        self.world.listener(event, action, repository, issue, None, user or repository.owner, {})
