"""GitHub's checks of a commit and what they printed, and what else is asked for when they fail.

Actions keep their log; other Apps report a summary and annotations; a status has a line of text and an address, which
is named and never fetched.
"""

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from bot.errors import Refused
from bot.forge.api import GitHubApi
from bot.forge.request import path_of
from bot.records import Check, CheckState
from bot.settings import Settings

_CHECKS = {"checks": "read", "statuses": "read"}
_ACTIONS = {"actions": "read"}
_CONTENTS = {"contents": "read"}
_PULLS = {"pull_requests": "read"}
_FAILED = frozenset(("failure", "timed_out"))  # what did not start (`startup_failure`) says nothing of the code
_STATUS = {"pending": CheckState.PENDING, "failure": CheckState.FAILED, "error": CheckState.FAILED}
_MOST = 500  # check runs of a commit that are looked at
_LOG_TAIL = 100_000  # bytes of a log that are kept
_LOG_MOST = 200_000_000  # bytes of a log that are read
_SECONDS = 30


class GitHubChecks:
    """`bot.contracts.Checks` on GitHub."""

    def __init__(self, settings: Settings, api: GitHubApi) -> None:
        self._settings = settings
        self._api = api

    async def open_pull(self, repository: str, branch: str) -> int | None:
        """https://docs.github.com/rest/pulls/pulls#list-pull-requests"""
        query = {"state": "open", "head": f"{repository.split('/')[0]}:{branch}"}
        found = await self._api.found("pull requests", repository, _PULLS, path_of(repository, "pulls"), query) or []
        return next((int(one["number"]) for one in found if one["head"]["ref"] == branch), None)

    async def read_file(self, repository: str, path: str) -> str | None:
        """https://docs.github.com/rest/repos/contents#get-repository-content"""
        found = await self._api.found("file", repository, _CONTENTS, path_of(repository, "contents", path))
        if not isinstance(found, dict) or found.get("encoding") != "base64":
            return None
        return base64.b64decode(str(found["content"])).decode("utf-8", "replace")

    async def checks(self, repository: str, commit: str) -> tuple[Check, ...]:
        """https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference"""
        runs: list[Mapping[str, Any]] = []
        for page in range(1, _MOST // 100 + 1):
            query = {"per_page": 100, "page": page}
            path = path_of(repository, "commits", commit, "check-runs")
            found = await self._api.found("checks", repository, _CHECKS, path, query)
            runs += (found or {}).get("check_runs") or ()
            if found is None or len(runs) >= found["total_count"]:
                break
        ours = self._settings.app_id
        kept = [_of_run(run) for run in runs if not ours or (run.get("app") or {}).get("id") != ours]
        path = path_of(repository, "commits", commit, "status")
        combined = await self._api.found("statuses", repository, _CHECKS, path, {"per_page": 100})
        return (*kept, *(_of_status(one) for one in (combined or {}).get("statuses") or ()))

    async def ran(self, repository: str, check: Check) -> bool:
        """https://docs.github.com/rest/actions/workflow-jobs#get-a-job-for-a-workflow-run"""
        if not check.is_job:
            return True
        try:
            job = await self._api.found("job", repository, _ACTIONS, path_of(repository, "actions", "jobs", check.id))
        except Refused:  # an App that may not read Actions
            return True
        return job is None or bool(job.get("steps", True))

    async def printed(self, repository: str, check: Check) -> str:
        """https://docs.github.com/rest/actions/workflow-jobs#download-job-logs-for-a-workflow-run"""
        parts = [check.said]
        if check.annotated:
            path = path_of(repository, "check-runs", check.id, "annotations")
            found = await self._api.found("annotations", repository, _CHECKS, path, {"per_page": 50}) or []
            parts += [f"{one['path']}:{one['start_line']}: {one['message']}" for one in found]
        if check.is_job:
            url = f"{self._settings.github_url.rstrip('/')}{path_of(repository, 'actions', 'jobs', check.id, 'logs')}"
            with contextlib.suppress(Refused):  # an App that may not read Actions
                token = await self._api.act("token", lambda: self._api.token(repository, _ACTIONS))
                parts.append(await asyncio.to_thread(_log_tail, url, token))
        return "\n\n".join(part for part in parts if part.strip())


def _of_run(run: Mapping[str, Any]) -> Check:
    if run["status"] == "waiting":  # for a person, who has to allow a deployment
        state = CheckState.OTHER
    elif run["status"] != "completed":
        state = CheckState.PENDING
    else:
        state = CheckState.FAILED if run["conclusion"] in _FAILED else CheckState.OTHER
    app = str((run.get("app") or {}).get("slug") or "")
    output = run.get("output") or {}
    said = [str(output[name]) for name in ("title", "summary", "text") if output.get(name)]
    return Check(
        name=str(run["name"]),
        state=state,
        id=int(run["id"]),
        app=app,
        is_job=app == "github-actions",
        said="\n".join(said),
        annotated=bool(output.get("annotations_count")),
    )


def _of_status(one: Mapping[str, Any]) -> Check:
    said = [str(one[name]) for name in ("description", "target_url") if one.get(name)]
    return Check(name=str(one["context"]), state=_STATUS.get(one["state"], CheckState.OTHER), said="\n".join(said))


def _log_tail(url: str, token: str) -> str:
    """The end of a job's log; "" where it can't be had, since a revision goes without it as well.

    GitHub answers with an address elsewhere, which works for a minute and gets no token.
    """
    try:
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "troop"}
        with requests.get(url, headers=headers, timeout=_SECONDS, allow_redirects=False) as answer:
            there = answer.headers.get("location", "")
        # Never from HTTPS to anything else.
        if answer.status_code != 302 or urlsplit(there).scheme not in {"https", urlsplit(url).scheme}:
            return ""
        tail, read = b"", 0
        with requests.get(there, timeout=_SECONDS, allow_redirects=False, stream=True) as log:
            if log.status_code != 200:
                return ""
            for piece in log.iter_content(1 << 16):
                read += len(piece)
                tail = (tail + piece)[-_LOG_TAIL:]
                if read > _LOG_MOST:
                    return ""
    except requests.RequestException:
        return ""
    return tail.decode("utf-8", "replace")
