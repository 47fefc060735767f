"""Runs on another branch than the default one: whose word counts for what, over real HTTP."""

import asyncio

import pytest

from bot.lifecycle import RunState
from bot.records import Report
from tests.github.fixtures import github, github_server
from tests.integration.scenario import FILES, REPOSITORY, plant
from tests.integration.service import Running, endpoint, service
from tests.scripted_endpoint import ScriptedEndpoint

__all__ = ["endpoint", "github", "github_server", "service"]

pytestmark = pytest.mark.slow

THEIRS = '[test]\ncommand = "false"\n[run]\ntrajectories = 1\n'


def fixed_on_default(service: Running) -> int:
    """The bug is on `develop` alone, whose own config would have other tests judge; the issue's number."""
    number = plant(service.github)
    service.github.commit(REPOSITORY, {"notes.md": "new\n", ".troop.toml": THEIRS}, branch="develop")
    fixed = FILES["mill/num.py"].replace(
        "        return low\n    return value", "        return high\n    return value"
    )
    service.github.commit(REPOSITORY, {"mill/num.py": fixed})
    return number


async def test_the_configs_base_is_worked_on_with_the_default_branchs_config(service: Running) -> None:
    number = fixed_on_default(service)
    service.github.commit(REPOSITORY, {".troop.toml": 'base = "develop"\n[run]\ntrajectories = 3\n'})
    assert await service.label_and_wait(REPOSITORY, number) == ["troop: done"]
    (pull,) = service.github.pull_requests(REPOSITORY)
    assert (pull["base"]["ref"], pull["base"]["sha"]) == ("develop", service.github.branches(REPOSITORY)["develop"])
    assert pull["head"]["ref"].endswith("-on-develop")
    assert "+        return high" in pull["diff"]
    assert ".troop.toml" not in pull["diff"]
    counted = Report.model_validate_json(service.store.report(1) or "")
    assert (counted.base_commit, counted.base_branch) == (pull["base"]["sha"], "develop")
    assert len(counted.trajectories) == 3, "the default branch's config counts, not develop's"
    service.github.comment(REPOSITORY, number, "/troop use 1", user="maintainer")
    await service.until(lambda: "now holds" in service.github.comments(REPOSITORY, number)[-1])
    (pull,) = service.github.pull_requests(REPOSITORY)
    assert pull["base"]["ref"] == "develop"


async def test_a_command_names_a_base_that_must_exist(service: Running) -> None:
    number = fixed_on_default(service)
    service.github.commit(REPOSITORY, {"CHANGES": "1.1\n"}, branch="release/1.x")
    assert await service.label_and_wait(REPOSITORY, number) == ["troop: no fix"], "the default branch has no bug"
    for words, told in (
        ("--base nowhere", "no branch `nowhere`"),
        ("--base --upload-pack=x", "takes the name of a branch"),
        ("--base ../main", "takes the name of a branch"),
        ("--base", "takes the name of a branch"),
    ):
        service.github.comment(REPOSITORY, number, f"/troop retry {words}", user="maintainer")
        await service.until(lambda told=told: told in service.github.comments(REPOSITORY, number)[-1])
    assert len(service.store.runs()) == 1
    service.github.comment(REPOSITORY, number, "/troop retry --base develop keep it short", user="maintainer")
    await service.until(lambda: len(service.store.runs()) == 2)
    assert await service.until_ended(REPOSITORY, number) == ["troop: done"]
    (pull,) = service.github.pull_requests(REPOSITORY)
    assert pull["base"]["ref"] == "develop"
    counted = Report.model_validate_json(service.store.report(2) or "")
    assert [one.body for one in counted.issue.feedback] == ["keep it short"]


async def test_a_base_of_the_config_that_is_not_there_is_said(service: Running, endpoint: ScriptedEndpoint) -> None:
    number = plant(service.github)
    service.github.commit(REPOSITORY, {".troop.toml": 'base = "gone"\n'})
    await asyncio.to_thread(service.github.label, REPOSITORY, number, user="maintainer")
    await service.until(lambda: [run.state for run in service.store.runs()] == [RunState.FAILED])
    await service.until(lambda: "there is no branch" in "\n".join(service.github.comments(REPOSITORY, number)))
    assert ".troop.toml names" in "\n".join(service.github.comments(REPOSITORY, number))
    assert endpoint.requests == []
