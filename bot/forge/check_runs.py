"""Check runs on GitHub, which an App alone may write. https://docs.github.com/rest/checks/runs"""

import logging
from collections.abc import Sequence
from typing import Any

from github import Github

from bot.errors import Refused
from bot.forge.api import GitHubApi
from bot.forge.request import ask, path_of
from bot.git.command import check_commit
from bot.records import CheckRun
from bot.sanitize import outgoing, redact

NAME = "Troop"
_CHECKS = {"checks": "write"}
_TITLE_LIMIT = 255  # characters

log = logging.getLogger(__name__)


class GitHubCheckRuns:
    """`bot.contracts.CheckRuns` on GitHub. Nothing that it writes holds one of the `secrets`."""

    def __init__(self, api: GitHubApi, app_id: int, secrets: Sequence[str]) -> None:
        self._api = api
        self._app_id = app_id
        self._secrets = tuple(secrets)

    async def check_run(self, repository: str, commit: str, run: CheckRun) -> None:
        """An App that is older than check runs was not granted the permission; `troop doctor` says so."""
        check_commit(commit)
        if not self._api.is_app:
            return
        try:
            await self._api.act("check run", lambda: self._check(repository, commit, self._body(run)))
        except Refused as error:
            log.warning("no check run on %s: %s", repository, error)

    def _body(self, run: CheckRun) -> dict[str, Any]:
        output = {"title": redact(run.title, self._secrets)[:_TITLE_LIMIT]}
        output |= {"summary": outgoing(run.summary, self._secrets)}
        if run.text:
            output["text"] = outgoing(run.text, self._secrets)
        said = {"status": "completed", "conclusion": "success" if run.passes else "neutral", "output": output}
        return said | ({"details_url": run.page} if run.page else {})

    async def _check(self, repository: str, commit: str, body: dict[str, Any]) -> None:
        query = {"check_name": NAME, "app_id": self._app_id, "filter": "latest"}

        def find(client: Github) -> int | None:
            path = path_of(repository, "commits", commit, "check-runs")
            found = ask(client, "GET", path, parameters=query)["check_runs"]
            return int(found[0]["id"]) if found else None

        known = await self._api.read(repository, _CHECKS, find)
        method, path = "POST", path_of(repository, "check-runs")
        if known is not None:
            method, path = "PATCH", path_of(repository, "check-runs", known)
        else:
            body = body | {"name": NAME, "head_sha": commit}
        await self._api.write(repository, _CHECKS, lambda client: ask(client, method, path, input=body))
