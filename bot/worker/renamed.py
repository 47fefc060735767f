"""A repository that was renamed while its run waited: its old name leads nowhere, or to another repository."""

import logging

from bot.contracts import IssueTracker
from bot.errors import Refused
from bot.records import ClaimedRun
from bot.settings import Settings
from bot.store import Store, in_thread
from bot.webhook.rules import Rules

log = logging.getLogger(__name__)


async def by_its_name_now(run: ClaimedRun, forge: IssueTracker, store: Store, settings: Settings) -> ClaimedRun:
    """The run, with the name that its repository has now, which is recorded.

    Raises `Refused` where the operator does not allow that one, and `ForgeError`.
    """
    if run.repository_id is None:
        return run
    name = await forge.name_of(run.repository, run.repository_id)
    if name == run.repository:
        return run
    log.warning("run %d: %s is %s now", run.id, run.repository, name)
    await in_thread(store.rename, run.repository_id, name)
    if not Rules.of(settings).allows(name):
        raise Refused(f"{run.repository} is {name} now, which is not in TROOP_REPOSITORIES")
    return run.model_copy(update={"repository": name})
