"""Lanes: a `/troop stop` must not wait behind the long run that it is meant to stop."""

from collections.abc import Awaitable, Callable, Mapping

from bot.store.jobs import COMMAND, RUN, parse

# Executes one job; may name a job to be handed over next, e.g. a run that was given back at shutdown.
Handler = Callable[[str], Awaitable[str | None]]
Lanes = Mapping[str, int]  # jobs at once, by kind

COMMANDS_AT_ONCE = 4


def lanes(runs_at_once: int) -> Lanes:
    return {RUN: runs_at_once, COMMAND: COMMANDS_AT_ONCE}


def lane_of(job_id: str) -> str:
    """Raises ValueError for what is no job id."""
    return parse(job_id).kind
