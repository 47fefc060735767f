"""Decides about pull requests of ours: a review asks for a revision, what becomes of one judges its winner. Pure."""

import re

from bot.contracts import OUR_BRANCHES
from bot.records import Act, Command, CommandName, Trigger
from bot.webhook import mention
from bot.webhook.decisions import Decision, Ignore, ReceiveCommand
from bot.webhook.delivery import Delivery
from bot.webhook.payloads import (
    Event,
    PullEvent,
    PullPayload,
    ReviewCommentEvent,
    ReviewCommentPayload,
    ReviewEvent,
    ReviewPayload,
    User,
)
from bot.webhook.rules import Rules, is_ours, origin, refuse_sender, refuse_source, same

# As GitHub's button to revert a pull request begins the new one's text.
_REVERTS = re.compile(r"Reverts (?P<repository>[\w.-]+/[\w.-]+)?#(?P<number>[1-9]\d{0,17})\b", re.ASCII)


def reviewed(delivery: Delivery, rules: Rules) -> Decision:
    """Of `pull_request_review`: an approval is a judgement, another one a revision or a command."""
    event = ReviewEvent.model_validate(delivery.payload)
    if event.review.state.casefold() == "approved":
        if refusal := _refuse_review(event, event.pull_request, event.review.user, rules):
            return refusal
        return _judge(delivery, event, event.pull_request.number, Act.APPROVED, rules)
    if event.review.state.casefold() not in ("commented", "changes_requested"):
        return Ignore(reason=f"a review that is {event.review.state[:20]} asks for nothing")
    if (command := _asked(event.review.body, rules)) is not None:
        return _command(event, event.pull_request, event.review, command, rules)
    return _revise(event, event.pull_request, event.review.id, event.review.user, rules)


def review_comment(delivery: Delivery, rules: Rules) -> Decision:
    """Its review arrives as `pull_request_review`, too; whichever comes first is taken."""
    event = ReviewCommentEvent.model_validate(delivery.payload)
    review = event.comment.pull_request_review_id
    if (command := _asked(event.comment.body, rules)) is not None:
        return _command(event, event.pull_request, event.comment, command, rules)
    if review is None:
        return Ignore(reason="the comment belongs to no review")
    return _revise(event, event.pull_request, review, event.comment.user, rules)


def _asked(body: str | None, rules: Rules) -> Command | None:
    """The command in what a reviewer wrote: `/troop stop`, or `@troop stop`."""
    return mention.command_in(body or "", rules.own_login if Trigger.MENTION in rules.triggers else "")


def _command(
    event: Event, pull: PullPayload, said: ReviewPayload | ReviewCommentPayload, command: Command, rules: Rules
) -> Decision:
    """A command is one wherever it is written, and no remark on the code. The pull request's conversation answers."""
    if refusal := _refuse_review(event, pull, said.user, rules):
        return refusal
    return ReceiveCommand(
        **origin(event, rules),
        issue_number=pull.number,
        comment_id=-said.id,
        source="command in a review" if isinstance(said, ReviewPayload) else "command on a line",
        command=command,
    )


def _refuse_review(event: Event, pull: PullPayload, author: User | None, rules: Rules) -> Ignore | None:
    if refusal := refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    if author is None or author.login != event.sender.login:
        return Ignore(reason="the review's author is not the sender")
    if not _is_our_pull(pull, rules):
        return Ignore(reason="the pull request is not ours")
    if pull.state != "open":
        return Ignore(reason=f"the pull request is {pull.state[:20]}")
    return None


def _revise(event: Event, pull: PullPayload, review: int, author: User | None, rules: Rules) -> Decision:
    if refusal := _refuse_review(event, pull, author, rules):
        return refusal
    return ReceiveCommand(
        **origin(event, rules),
        issue_number=pull.number,
        comment_id=review,
        source="review",
        command=Command(name=CommandName.REVISE),
    )


def ended(delivery: Delivery, rules: Rules) -> Decision:
    """A pull request of ours was closed or opened again, or another one was merged that reverts it."""
    event = PullEvent.model_validate(delivery.payload)
    pull = event.pull_request
    if refusal := refuse_source(event, rules):
        return refusal
    if pull.merged and delivery.action == "closed" and not is_ours(event.sender, rules):
        # Whoever merges may write; a merge queue is a bot.
        if _is_our_pull(pull, rules):
            return _judge(delivery, event, pull.number, Act.MERGED, rules)
        if (reverted := _reverted(pull, event.repository.full_name)) is not None:
            return _judge(delivery, event, reverted, Act.REVERTED, rules)
    if not _is_our_pull(pull, rules):
        return Ignore(reason="the pull request is not ours")
    if refusal := refuse_sender(event.sender, rules):
        return refusal
    return _judge(delivery, event, pull.number, Act.CLOSED if delivery.action == "closed" else Act.REOPENED, rules)


def _reverted(pull: PullPayload, repository: str) -> int | None:
    """The number of the pull request of this repository that this one reverts. Only a branch of the repository itself
    counts: a fork's text is a stranger's."""
    if pull.head.repo is None or not same(pull.head.repo.full_name, repository):
        return None
    found = _REVERTS.match((pull.body or "").lstrip())
    if found is None or not same(found["repository"] or repository, repository):
        return None
    return int(found["number"])


def _judge(delivery: Delivery, event: Event, pull: int, act: Act, rules: Rules) -> ReceiveCommand:
    return ReceiveCommand(
        **origin(event, rules),
        issue_number=pull,
        comment_id=delivery.number,
        source="judgement",
        command=Command(name=CommandName.JUDGE, act=act),
    )


def _is_our_pull(pull: PullPayload, rules: Rules) -> bool:
    by_us = not rules.own_login or (pull.user is not None and is_ours(pull.user, rules))
    return by_us and pull.head.ref.startswith(OUR_BRANCHES)
