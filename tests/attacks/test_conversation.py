"""Commands in odd places, and several in one comment: each is carried out, or it is said that it was not."""

from datetime import UTC, datetime

import pytest

from bot.publish.messages import answers
from bot.publish.revising import remarks_of
from bot.records import ClaimedCommand, Command, CommandName, Trigger
from bot.records.revision import Review, ReviewComment
from bot.webhook.decide import decide
from bot.webhook.decisions import Ignore, ReceiveCommand
from bot.webhook.rules import Rules
from bot.webhook.slash_command import parse
from tests.bot.webhook.deliveries import delivery

APP = Rules(label="troop", app_id=12345, own_login="troop[bot]")
REVIEW, LINE = "pull_request_review.submitted", "pull_request_review_comment.created"


@pytest.mark.parametrize(
    ("name", "changes", "number", "source"),
    [
        (REVIEW, {"review__body": "Hm.\n/troop stop"}, -9001, "command in a review"),
        (REVIEW, {"review__body": "/troop stop", "review__state": "commented"}, -9001, "command in a review"),
        (LINE, {"comment__body": "/troop stop"}, -7001, "command on a line"),
        (LINE, {"comment__body": "/troop stop", "comment__pull_request_review_id": None}, -7001, "command on a line"),
    ],
)
def test_a_command_in_a_review_is_carried_out(name: str, changes: dict[str, str], number: int, source: str) -> None:
    decision = decide(delivery(name, **changes), APP)
    assert isinstance(decision, ReceiveCommand)
    assert (decision.command, decision.issue_number) == (Command(name=CommandName.STOP), 8)
    assert (decision.comment_id, decision.source) == (number, source)


@pytest.mark.parametrize("name", [REVIEW, LINE])
def test_attack_10_a_command_that_a_review_quotes_is_none(name: str) -> None:
    body = "review__body" if name == REVIEW else "comment__body"
    for quoted in ("> /troop stop", "```\n/troop stop\n```"):
        decision = decide(delivery(name, **{body: quoted}), APP)
        assert isinstance(decision, ReceiveCommand)
        assert decision.command == Command(name=CommandName.REVISE)


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": {"login": "dependabot[bot]", "id": 5, "type": "Bot"}},
        {"sender": {"login": "somebody", "id": 7, "type": "User"}},
        {"pull_request__state": "closed"},
        {"pull_request__head__ref": "octocat/troop"},
    ],
)
def test_attack_8_and_9_who_may_not_review_may_not_command_there(changes: dict[str, object]) -> None:
    for name, body in ((REVIEW, "review__body"), (LINE, "comment__body")):
        assert isinstance(decide(delivery(name, **{body: "/troop stop"}, **changes), APP), Ignore)


def test_a_command_is_no_remark_that_a_fix_is_asked_for() -> None:
    comments = tuple(
        ReviewComment(id=n, thread=n, author="ann", body=body, path="a.py", line=1, hunk="+x")
        for n, body in enumerate(("Name it.", "/troop stop", "As I said:\n> /troop stop"), 1)
    )
    review = Review(
        id=9, author="ann", requests_changes=True, body="/troop retry be short", at=datetime.now(UTC), comments=comments
    )
    remarks, _ = remarks_of(review, "troop[bot]")
    assert [remark.thread for remark in remarks] == [1, 3]


@pytest.mark.parametrize("name", [REVIEW, LINE])
def test_a_mention_in_a_review_is_a_command_as_elsewhere(name: str) -> None:
    body = "review__body" if name == REVIEW else "comment__body"
    decision = decide(delivery(name, **{body: "@troop retry keep zero"}), APP)
    assert isinstance(decision, ReceiveCommand)
    assert decision.command == Command(name=CommandName.RETRY, words="keep zero")
    for other in ("> @troop stop", "`@troop stop`", "@troop keep zero", "ask @troop stop"):
        decision = decide(delivery(name, **{body: other}), APP)
        assert isinstance(decision, ReceiveCommand)
        assert decision.command == Command(name=CommandName.REVISE), other
    off = APP.model_copy(update={"triggers": frozenset({Trigger.LABEL})})
    decision = decide(delivery(name, **{body: "@troop stop"}), off)
    assert isinstance(decision, ReceiveCommand)
    assert decision.command == Command(name=CommandName.REVISE)


@pytest.mark.parametrize(
    ("body", "asks"),
    [("@troop keep zero", True), ("@troop stop", False), ("Nice, @troop!", False), ("keep zero", False)],
)
def test_a_review_that_only_says_something_asks_where_it_is_said_to_us(body: str, asks: bool) -> None:
    review = Review(id=9, author="ann", requests_changes=False, body=body, at=datetime.now(UTC), comments=())
    assert bool(remarks_of(review, "troop[bot]")[0]) is asks


def test_what_follows_a_command_in_the_same_comment_is_said_to_be_left() -> None:
    def answer(body: str) -> str:
        command = parse(body)
        assert command is not None
        return answers.further(
            ClaimedCommand(
                id=1,
                repository="o/r",
                installation_id=1,
                issue_number=1,
                comment_id=1,
                sender="ann",
                command=command,
                run_id=None,
                run_state=None,
            )
        )

    assert answer("/troop stop") == ""
    assert "1 further command, not carried out" in answer("/troop stop\n/troop retry")
    assert "2 further commands, not carried out" in answer("/troop stop\n\n/troop retry\n\nHm.\n/troop help")
