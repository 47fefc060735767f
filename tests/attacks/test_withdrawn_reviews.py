"""Reviews that are taken back before the worker looks at them, or were not theirs to give, start no revision."""

from typing import Any

import pytest

from bot.errors import Refused
from bot.publish.revising import by_review, remarks_of
from bot.records import ClaimedCommand, Command, CommandName, Review, ReviewComment
from bot.worker.worker import is_infrastructure
from tests.bot.publish.test_checking import PULL, Scene, scene
from tests.bot.sample import REPO
from tests.github import GitHubServer
from tests.github.fixtures import forge_for, github, github_server

__all__ = ["github", "github_server", "scene"]

SUGGESTION = "Better:\n```suggestion\n    return max(low, min(value, high))\n```"


async def outcome(scene: Scene, review: int, sender: str = "wendy") -> str:
    command = ClaimedCommand(
        id=3,
        repository=REPO,
        installation_id=1,
        issue_number=PULL,
        comment_id=review,
        sender=sender,
        command=Command(name=CommandName.REVISE),
        run_id=None,
        run_state=None,
    )
    runs: Any = scene.runs
    return (await by_review(forge_for(scene.github, REPO), runs, command)).note


def dismiss(github: GitHubServer, review: int) -> None:
    next(one for one in github.reviews.reviews[REPO, PULL] if one.id == review).state = "DISMISSED"


def delete_comments(github: GitHubServer, review: int) -> None:
    github.reviews.comments[REPO, PULL].clear()


async def asked(scene: Scene, comments: list[dict[str, Any]], body: str = "Look.", user: str = "wendy") -> int:
    scene.github.set_permission(REPO, "wendy", "write")
    return scene.github.review(REPO, PULL, body=body, comments=comments, user=user)


LINE = {"path": "mill.py", "line": 1, "body": SUGGESTION}


async def test_a_suggestion_is_what_is_asked_for(scene: Scene) -> None:
    review = await asked(scene, [LINE])
    assert await outcome(scene, review) == "run 8 revises it"
    assert [one.body for one in scene.runs.revised[0].feedback] == ["Look.", SUGGESTION]


async def test_a_review_that_was_dismissed_asks_for_nothing_and_judges_nothing(scene: Scene) -> None:
    review = await asked(scene, [LINE])
    dismiss(scene.github, review)
    assert await outcome(scene, review) == "the review was dismissed"
    assert (scene.runs.revised, scene.runs.judged) == ([], [])


async def test_comments_that_were_deleted_are_not_asked_for(scene: Scene) -> None:
    review = await asked(scene, [LINE], body="")
    delete_comments(scene.github, review)
    assert await outcome(scene, review) == "the review asks for nothing"
    assert scene.runs.revised == []


async def test_a_review_that_is_gone_is_not_tried_for_hours(scene: Scene) -> None:
    await asked(scene, [LINE])
    with pytest.raises(Refused) as caught:
        await outcome(scene, 999)
    assert not is_infrastructure(caught.value)
    assert scene.runs.revised == []


@pytest.mark.parametrize("permission", ["read", "triage", "none"])
async def test_attack_8_a_forks_author_asks_for_nothing(scene: Scene, permission: str) -> None:
    scene.github.set_permission(REPO, "mallory", permission)
    review = await asked(scene, [LINE], user="mallory")
    assert await outcome(scene, review, "mallory") == "ignored: mallory has no write permission"
    assert scene.runs.revised == []


def test_lines_that_a_comment_is_about_are_all_shown() -> None:
    hunk = "@@ -1,40 +1,40 @@\n" + "\n".join(f"+line {n}" for n in range(1, 41))
    comment = ReviewComment(id=1, thread=1, author="wendy", body="too long", path="a.py", line=40, first=11, hunk=hunk)
    whole = {"id": 1, "author": "wendy", "requests_changes": False, "body": "", "at": "2026-01-01T00:00:00Z"}
    ((remark,), _) = remarks_of(Review.model_validate(whole | {"comments": (comment,)}), "troop[bot]")
    assert (remark.feedback.first, remark.feedback.line) == (11, 40)
    assert "+line 11\n" in remark.feedback.hunk
    assert remark.feedback.hunk.count("\n") < 45
