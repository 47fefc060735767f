"""The two queues: a `/troop stop` must not wait behind the long run that it is meant to stop."""

from collections.abc import Awaitable, Callable, Mapping

from bot.store.jobs import COMMAND, RUN, parse

# Executes one job; may name a job to be enqueued next, e.g. a run that was given back at shutdown.
Handler = Callable[[str], Awaitable[str | None]]
Queues = Mapping[str, int]  # jobs at once, by the queue's name

COMMANDS_AT_ONCE = 4


def queues(runs_at_once: int) -> Queues:
    """A queue for each kind of job."""
    return {RUN: runs_at_once, COMMAND: COMMANDS_AT_ONCE}


def queue_of(job_id: str) -> str:
    """The queue that takes the job. Raises ValueError for anything that is not a job id."""
    return parse(job_id).kind
