"""Runs that mentions, assignments and bots start over real HTTP, and those that nobody may start so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.lifecycle import RunState
from bot.settings import Settings
from tests.github.fixtures import github, github_server
from tests.github.server import GitHubServer
from tests.integration.scenario import REPOSITORY, plant
from tests.integration.service import Running, endpoint, running_service
from tests.scripted_endpoint import ScriptedEndpoint

__all__ = ["endpoint", "github", "github_server"]

pytestmark = pytest.mark.slow

US = "troop[bot]"
HELPER = "helper[bot]"


@pytest.fixture
async def service(github: GitHubServer, endpoint: ScriptedEndpoint, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_service(github, tmp_path, endpoint.base_url, bots_allowed=(HELPER,)) as running:
        yield running


async def quiet(service: Running) -> None:
    """All deliveries are recorded, and all that they ask for is done."""
    await asyncio.to_thread(service.github.settle)
    await service.until(service.idle)


def reactions(service: Running, number: int) -> list[str]:
    issue = service.github.world.issue(service.github.world.repository(REPOSITORY), number)
    return [content for comment in issue.comments for _, content in comment.reactions]


async def test_a_mention_starts_a_run_as_the_label_does(service: Running, endpoint: ScriptedEndpoint) -> None:
    number = plant(service.github)
    service.github.comment(REPOSITORY, number, "@troop, the bound is inclusive", user="maintainer")
    assert await service.until_ended(REPOSITORY, number) == ["troop: done"]
    assert len(service.github.pull_requests(REPOSITORY)) == 1
    assert reactions(service, number) == ["eyes"]
    shown = "\n".join(message["content"] for request in endpoint.requests for message in request["messages"])
    assert "the bound is inclusive" in shown
    begun = len(endpoint.requests)
    service.github.comment(REPOSITORY, number, "Thanks, @troop!", user="maintainer")
    await quiet(service)
    assert len(service.store.runs()) == 1, "thanks are no second run"
    service.github.comment(REPOSITORY, number, "@troop status", user="maintainer")
    await quiet(service)
    assert "The newest run has ended" in service.github.comments(REPOSITORY, number)[-1]
    assert len(endpoint.requests) == begun


@pytest.mark.parametrize(
    "body",
    [
        "```\n@troop\n```",
        "> @troop retry\n\nno",
        "<!-- @troop -->",
        "@troop-fake",
        "@tr\u043e\u043ep",
        "[@troop](https://example.com)",
    ],
)
async def test_what_github_shows_as_no_mention_starts_nothing(service: Running, body: str) -> None:
    number = plant(service.github)
    service.github.comment(REPOSITORY, number, body, user="maintainer")
    edited = service.github.comment(REPOSITORY, number, "Hm.", user="maintainer")
    service.github.edit_comment(REPOSITORY, edited, "@troop", user="maintainer")
    service.github.comment(REPOSITORY, number, "@troop", user=US)
    service.github.comment(REPOSITORY, number, "@troop", user="other[bot]")
    await quiet(service)
    assert service.store.runs() == ()
    assert len(service.github.comments(REPOSITORY, number)) == 4


async def test_who_may_not_write_starts_nothing_by_a_mention_or_an_assignment(
    service: Running, endpoint: ScriptedEndpoint
) -> None:
    number = plant(service.github)
    service.github.set_permission(REPOSITORY, "reader", "triage")
    service.github.comment(REPOSITORY, number, "@troop", user="reader")
    await quiet(service)
    service.github.assign(REPOSITORY, number, US, user="reader")
    await quiet(service)
    assert {run.state for run in service.store.runs()} == {RunState.REFUSED}
    assert endpoint.requests == []
    assert reactions(service, number) == []


async def test_an_assignment_starts_a_run_and_its_removal_stops_it(
    service: Running, endpoint: ScriptedEndpoint
) -> None:
    number = plant(service.github)
    endpoint.latency = 0.2
    service.github.assign(REPOSITORY, number, US, user="maintainer")
    await service.until(lambda: [run.state for run in service.store.runs()] == [RunState.TRAJECTORIES])
    service.github.assign(REPOSITORY, number, US, user="maintainer", to=False)
    await service.until(lambda: [run.state for run in service.store.runs()] == [RunState.STOPPED])
    endpoint.latency = 0.0
    service.github.assign(REPOSITORY, number, US, user="maintainer")
    await service.until(lambda: len(service.store.runs()) == 2)
    assert await service.until_ended(REPOSITORY, number) == ["troop: done"]


async def test_a_listed_bot_is_heard_and_another_is_not(service: Running) -> None:
    number = plant(service.github)
    service.github.label(REPOSITORY, number, user="other[bot]")
    service.github.comment(REPOSITORY, number, "/troop help", user="other[bot]")
    service.github.unlabel(REPOSITORY, number, user="maintainer")
    await quiet(service)
    assert service.store.runs() == ()
    assert len(service.github.comments(REPOSITORY, number)) == 1
    assert await service.label_and_wait(REPOSITORY, number, user=HELPER) == ["troop: done"]
    service.github.comment(REPOSITORY, number, "/troop status", user=HELPER)
    await quiet(service)
    assert "The newest run has ended" in service.github.comments(REPOSITORY, number)[-1]


def test_only_names_of_bots_are_listed() -> None:
    assert Settings(_env_file=None, bots_allowed="renovate[bot]").bots_allowed == ("renovate[bot]",)
    for word in ("renovate", "*[bot]", "re/no[bot]"):
        with pytest.raises(ValueError, match="look like renovate"):
            Settings(_env_file=None, bots_allowed=word)
