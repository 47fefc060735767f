"""The repository of a task at its base commit."""

import asyncio
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bot.errors import CheckoutError, EvaluationError, GitFailed, Refused
from bot.evaluation.tasks import RepositoryTask
from bot.forge.local import LocalCheckout
from bot.git.command import Limits, Remote, git
from bot.git.workspace import Workspace
from bot.records import Bounds, Checkout, Patch, StoredFile, Submodule

_MAX_BYTES = 4 << 30
_SECONDS = 1800.0
_WEB = "https://github.com"


class TaskHost:
    """The `RepositoryHost` of evaluations: checkouts on this machine, else GitHub, without a token. Publishes nothing.

    `folders`: where checkouts are looked for, as `owner__name`, `name`, or `owner/name`.
    """

    def __init__(self, folders: Sequence[Path], task: RepositoryTask) -> None:
        self._folders = folders
        self._task = task

    async def clone(self, repository: str, target: Path, commit: str = "") -> str:
        """The task's base commit below `target`. Raises `EvaluationError` where it is not to be had."""
        workspace = Workspace(target)
        await workspace.create()
        path = await asyncio.to_thread(self.folder)
        wanted = commit or self._task.base_commit
        found = await (self._from_disk(path, workspace, wanted) if path else self._from_web(workspace, wanted))
        await workspace.materialise(found, seconds=_SECONDS, max_bytes=_MAX_BYTES)
        return found

    @property
    def bounds(self) -> Bounds:
        return Bounds(seconds=_SECONDS, max_bytes=_MAX_BYTES)

    async def module(self, module: Submodule, target: Path, bounds: Bounds) -> str:
        """From the checkout on this machine. Raises `CheckoutError` where it has none."""
        path = await asyncio.to_thread(self.folder)
        if path is None:
            raise CheckoutError("an evaluation takes submodules from checkouts on this machine")
        return await LocalCheckout(path).module(module, target, bounds)

    async def stored(self, repository: str, wanted: Sequence[StoredFile], folder: Path) -> str:
        """From the checkout on this machine."""
        path = await asyncio.to_thread(self.folder)
        if path is None:
            return "an evaluation takes them from checkouts on this machine"
        return await LocalCheckout(path).stored(repository, wanted, folder)

    def folder(self) -> Path | None:
        """The checkout on this machine; None where there is none."""
        name = self._task.repository
        places = [Path(name).expanduser()]
        places += [
            folder / form for folder in self._folders for form in (name.replace("/", "__"), name.split("/")[-1], name)
        ]
        return next((place for place in places if (place / ".git").exists() or (place / "HEAD").is_file()), None)

    async def _from_disk(self, path: Path, workspace: Workspace, wanted: str) -> str:
        limits = Limits(_SECONDS)
        expression = f"{wanted or 'HEAD'}^{{commit}}"
        try:
            objects = await git("rev-parse", "--path-format=absolute", "--git-path", "objects", cwd=path, limits=limits)
            found = await git(
                "rev-parse", "--verify", "--quiet", "--end-of-options", expression, cwd=path, limits=limits
            )
        except GitFailed as error:
            raise EvaluationError(
                f"{self._task.id}: {path} has no commit {wanted or 'HEAD'} ({error.words or 'git does not know it'}): "
                "fetch it there, or remove the folder so that it is cloned"
            ) from None
        alternates = workspace.git_dir / "objects" / "info" / "alternates"
        await asyncio.to_thread(alternates.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(alternates.write_bytes, objects)
        return os.fsdecode(found).strip()

    async def _from_web(self, workspace: Workspace, wanted: str) -> str:
        url = f"{_WEB}/{self._task.repository}.git"
        try:
            return await workspace.fetch(Remote(url), wanted, seconds=_SECONDS, max_bytes=_MAX_BYTES)
        except GitFailed as error:
            raise EvaluationError(
                f"{self._task.id}: {url} can't be fetched: {error.words[-300:]}; where there is no network, put a "
                f"clone into a folder, as {self._task.repository.replace('/', '__')}, and give that with --checkouts"
            ) from None

    async def commit(self, checkout: Checkout, patch: Patch, message: str, moment: datetime | None) -> str:
        """Always raises `Refused`."""
        raise Refused("an evaluation commits nothing")

    async def push(self, repository: str, checkout: Path, branch: str, commit: str, *, force: bool) -> str:
        """Always raises `Refused`."""
        raise Refused("an evaluation pushes nothing")
