"""A repository: how its runs ended, what its config says and what of it counts, and why nothing may happen."""

import re
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request, Response

from bot.forge.people import file_of
from bot.honoured import honour
from bot.lifecycle import ACTIVE, RunState
from bot.publish.messages.states import in_words
from bot.records import Record
from bot.repo_config import FILE_NAME, ConfigProblem, parse
from bot.store import Listed, RunFilter, RunInfo
from bot.web.pages import age
from bot.web.run_now import builds_of
from bot.web.sessions import Visitor
from bot.web.site import Site
from bot.webhook.rules import Rules

_NAME = re.compile(r"[\w.-]{1,100}/[\w.-]{1,100}", re.ASCII)
_NEWEST = 20  # runs
_SLOW = 120.0  # seconds that a run waits for a worker before it is worth a word


class Config(Record):
    """What `.troop.toml` says, line by line what counts, and what is wrong with it or ignored."""

    text: str = ""
    counts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    unread: str = ""  # why it is not shown


def repository_routes(site: Site) -> APIRouter:
    router = APIRouter()
    page = _RepositoryPage(site)
    router.add_api_route("/repositories/{owner}/{name}", page.one, methods=["GET"], response_model=None)
    return router


class _RepositoryPage:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._rules = Rules.of(site.settings)

    async def one(self, request: Request, owner: str, name: str) -> Response:
        site = self._site
        visitor = site.visitor(request)
        repository = f"{owner}/{name}"
        if not _NAME.fullmatch(repository) or not (await site.access(visitor, repository)).read:
            raise HTTPException(404, f"there is no {repository[:200]}, or you may not see it")
        listed = await site.thread(site.store.listed, RunFilter(repositories=frozenset({repository})), limit=_NEWEST)
        outcomes = await site.thread(site.store.outcomes, repository)
        hold = await site.thread(site.store.hold, repository)
        shown = {
            "repository": repository,
            "runs": listed.runs,
            "outcomes": {in_words(state): count for state, count in sorted(outcomes.items())},
            "rate": solve_rate(outcomes),
            "problems": self._problems(repository, listed, hold.reason if hold else ""),
            "config": await self._config(visitor, repository),
            "builds": await site.thread(builds_of, site, [run.id for run in listed.runs]),
            "active": ACTIVE,
            "in_words": in_words,
            "age": age,
            "label": site.settings.label,
        }
        return await site.show(request, "repository.html", shown, visitor=visitor)

    def _problems(self, repository: str, listed: Listed, hold: str) -> tuple[str, ...]:
        """Why nothing may happen there."""
        found = []
        if not self._rules.allows(repository):
            found.append(f"{repository} is not in TROOP_REPOSITORIES: the operator has to add it.")
        if hold:
            found.append(f"No run starts now: {hold}.")
        if not listed.runs:
            found.append(
                f"No run yet: label an open issue {self._site.settings.label}. The App must be installed there, and "
                "whoever labels needs write permission. GitHub shows each delivery with Troop's answer in the App's "
                "settings, under Advanced."
            )
        found += [words for run in listed.runs if (words := _trouble(run))]
        return tuple(dict.fromkeys(found))[:6]

    async def _config(self, visitor: Visitor, repository: str) -> Config:
        if visitor.admin:
            return Config(unread="Sign in with GitHub to see it: it is read with your own permission.")
        text = await file_of(self._site.settings, visitor.token, repository, FILE_NAME)
        if text is None:
            return Config(unread=f"There is no {FILE_NAME}: the server's settings and the repository's files decide.")
        parsed = parse(text)
        if isinstance(parsed, ConfigProblem):
            return Config(text=text, notes=(str(parsed),))
        config, notes = honour(parsed, self._site.settings)
        values = {name: value for name, value in config.model_dump(exclude_defaults=True).items() if value}
        shown = tuple((name.replace("_", " "), _value(value)) for name, value in values.items())
        return Config(text=text, counts=shown, notes=notes)


def solve_rate(outcomes: dict[RunState, int]) -> str:
    """`12 of 15 (80%)`: of the runs that came to an end by themselves; "" where there is none."""
    ended = sum(outcomes.get(state, 0) for state in (RunState.SOLVED, RunState.ABSTAINED, RunState.FAILED))
    solved = outcomes.get(RunState.SOLVED, 0)
    return f"{solved:,} of {ended:,} ({solved / ended:.0%})" if ended else ""


def _trouble(run: RunInfo) -> str:
    waited = (datetime.now(UTC) - run.created_at).total_seconds()
    if run.state is RunState.QUEUED and not run.hold and waited > _SLOW:
        return f"Run {run.id} has waited {age(run.created_at)} for a worker: is `troop work` running, and ready?"
    if run.state in (RunState.FAILED, RunState.PARKED, RunState.REFUSED) and run.reason:
        return f"Run {run.id} {in_words(run.state)}: {run.reason}"
    if run.state is RunState.REFUSED:
        return f"Run {run.id} was not started: {run.sender} has no write permission."
    return ""


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
