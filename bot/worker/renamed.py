"""A repository that was renamed while a job of it waited: its old name leads nowhere, or to another repository."""

import logging
from typing import TypeVar

from bot.contracts import IssueTracker
from bot.errors import Refused
from bot.records import ClaimedCommand, ClaimedRun
from bot.settings import Settings
from bot.store import Store, in_thread
from bot.webhook.rules import Rules

log = logging.getLogger(__name__)

Job = TypeVar("Job", ClaimedRun, ClaimedCommand)


async def by_its_name_now(job: Job, forge: IssueTracker, store: Store, settings: Settings) -> Job:
    """The job, with the name that its repository has now, which is recorded.

    Raises `Refused` where the operator does not allow that one, and `ForgeError`.
    """
    if job.repository_id is None:
        return job
    name = await forge.name_of(job.repository, job.repository_id)
    if name == job.repository:
        return job
    log.warning("%s is %s now", job.repository, name)
    await in_thread(store.rename, job.repository_id, name)
    if not Rules.of(settings).allows(name):
        raise Refused(f"{job.repository} is {name} now, which is not in TROOP_REPOSITORIES")
    return job.model_copy(update={"repository": name})
