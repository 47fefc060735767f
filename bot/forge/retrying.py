"""How often one act on GitHub is tried, and how long in between."""

from typing import NoReturn

from github import GithubException
from tenacity import RetryCallState

from bot.errors import ForgeError, RateLimited
from bot.forge.answers import asked_to_wait

ATTEMPTS = 6  # of one act
PATIENCE = 300.0  # seconds that one act may wait in total; after that the queue retries the job


class Trouble(Exception):
    """An attempt failed, and another may succeed. `rate_limit`: GitHub's answer where it asks to wait."""

    def __init__(self, message: str, rate_limit: GithubException | None = None) -> None:
        super().__init__(message)
        self.rate_limit = rate_limit


def wait(state: RetryCallState) -> float:
    """Seconds until the next attempt.

    https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#handle-rate-limit-errors-appropriately
    """
    limit = _trouble(state).rate_limit
    backoff = float(2 ** (state.attempt_number - 1))
    if limit is None:
        return backoff
    asked = asked_to_wait(limit)
    return 60.0 * backoff if asked is None else asked


def give_up(state: RetryCallState) -> NoReturn:
    """Raises `RateLimited` with the seconds to wait, or `ForgeError`, for what was tried in vain."""
    trouble, delay = _trouble(state), state.upcoming_sleep
    if trouble.rate_limit is not None:
        raise RateLimited(f"{trouble}: wait {delay:.0f} s", delay) from trouble.__cause__
    raise ForgeError(str(trouble)) from trouble.__cause__


def _trouble(state: RetryCallState) -> Trouble:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Trouble), "nothing else is tried again"
    return error


def enough(state: RetryCallState) -> bool:
    """Whether the act is given up: too many attempts, or the next one is too far away."""
    return state.attempt_number >= ATTEMPTS or state.idle_for + state.upcoming_sleep > PATIENCE
