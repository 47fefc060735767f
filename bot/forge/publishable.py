"""Whether a pull request of ours could be made in a repository as it is now, asked before anything is spent."""

from typing import Any

from github import Github

from bot.errors import Refused
from bot.forge.answers import unreachable
from bot.forge.api import GitHubApi
from bot.forge.permissions import PERMISSIONS, lacking, ungranted
from bot.forge.request import ask, path_of

_READ = {"metadata": "read"}


class GitHubPublishable:
    """`bot.contracts.BranchRules.check_publishable` on GitHub."""

    def __init__(self, api: GitHubApi) -> None:
        self._api = api

    async def check_publishable(self, repository: str) -> None:
        """https://docs.github.com/rest/repos/repos#get-a-repository"""
        if self._api.is_app:
            found = await self._api.act("installation", lambda: self._api.installation_of(repository))
            if found is None:
                raise unreachable(repository)
            if found.get("suspended_at"):
                raise Refused(
                    f"the App's installation on {repository} is suspended; the account's owner lifts that in its "
                    "settings, under Applications"
                )
            if missing := lacking(found["permissions"], PERMISSIONS):
                raise ungranted(repository, missing)

        def find(client: Github) -> dict[str, Any]:
            return dict(ask(client, "GET", path_of(repository)))

        now = await self._api.act("repository", lambda: self._api.read(repository, _READ, find))
        if now["archived"]:
            raise Refused(f"{repository} is archived; unarchive the repository in its settings")
        if not self._api.is_app and not (now.get("permissions") or {}).get("push"):
            raise Refused(f"the user of TROOP_TOKEN has no write permission in {repository}; give it to them")
