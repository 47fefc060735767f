"""Whether a run is wanted and possible: asked before it begins, and where GitHub refuses what it says meanwhile."""

import contextlib

from bot.contracts import MAY_WRITE, Forge
from bot.errors import ForgeError, Refused
from bot.lifecycle import RunState
from bot.publish.hindered import hindered_by_rules
from bot.publish.messages.labels import Labels
from bot.records import ClaimedRun, IssueState, Trigger
from bot.store import Store, in_thread
from bot.worker.callbacks import Finished


class Wishes:
    """Asks GitHub, since a label proves nothing and a delivery may be late or lost."""

    def __init__(self, store: Store, labels: Labels) -> None:
        self._store = store
        self._labels = labels

    async def unwanted(self, forge: Forge, run: ClaimedRun) -> Finished | None:
        """Why the run must not begin: the sender may not start runs, the issue or its label is gone, or no push would
        be taken. Raises `Refused` where no pull request could be made there."""
        owner = run.again is not None and run.again.by_owner
        if not owner and await forge.permission(run.repository, run.sender) not in MAY_WRITE:
            return Finished(state=RunState.REFUSED)
        stopped = await (self._revision_stopped(forge, run) if run.revision is not None else self._stopped(forge, run))
        if stopped:
            return Finished(state=RunState.STOPPED, note=stopped)
        await forge.check_publishable(run.repository)
        why = await hindered_by_rules(forge, run)
        return Finished(state=RunState.REFUSED, note=why) if why else None

    async def hopeless(self, forge: Forge, run: ClaimedRun) -> str:
        """Why nothing can come of a run that has begun; "" where something can: a locked issue gets its pull request.

        Raises `ForgeError`.
        """
        try:
            await forge.check_publishable(run.repository)
            now = await forge.issue_state(run.repository, run.conversation)
        except Refused as error:
            return str(error)
        return "" if now.open else "the issue is closed" if run.revision is None else "the pull request is closed"

    @staticmethod
    async def _revision_stopped(forge: Forge, run: ClaimedRun) -> str:
        assert run.revision is not None, "a revision is of a pull request"
        pull = await forge.pull_state(run.repository, run.revision.pull)
        if not pull.open:
            return "the pull request is closed"
        if run.revision.head and run.revision.head != pull.head:
            return "the branch has moved on since its checks failed"
        return ""

    async def _stopped(self, forge: Forge, run: ClaimedRun) -> str:
        if run.comment_id is not None:
            with contextlib.suppress(ForgeError):  # a comment that was deleted meanwhile still asked
                await forge.react(run.repository, run.comment_id)
        now = await forge.issue_state(run.repository, run.issue.number)
        if not now.open:
            return "the issue is closed"
        if run.trigger is Trigger.ASSIGNMENT and not await self._assigned(forge, now):
            return "the assignment was removed"
        ours = {label.casefold() for label in self._labels.known}
        labelled = any(label.casefold() in ours for label in now.labels)
        if not labelled and await in_thread(self._store.needs_label, run.id):
            return "the label was removed"
        return ""

    @staticmethod
    async def _assigned(forge: Forge, issue: IssueState) -> bool:
        own = (await forge.own_login()).casefold()
        return own in {login.casefold() for login in issue.assignees}
