"""Decides what to do about a verified delivery, without I/O: `decide(delivery, rules)` returns a decision.

The sender's permission is not checked here, since GitHub's payload doesn't give it reliably: the worker asks the
permission API before it does anything that costs.

A `/troop` comment on a pull request arrives as `issue_comment` with the number of the pull request, not of the issue.
`ReceiveCommand.issue_number` is the number of the conversation with the comment; the worker finds the issue from it.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable

from pydantic import ValidationError

from bot.contracts import OUR_BRANCHES, OUR_COMMENT, OUR_QUESTION
from bot.records import Act, Command, CommandName, Issue, IssueComment, Record, Trigger
from bot.sanitize import clean, clean_issue
from bot.settings import Settings
from bot.webhook import mention, slash_command
from bot.webhook.decisions import Answer, CancelRun, Decision, Ignore, ReceiveCommand, StartRun
from bot.webhook.delivery import Delivery
from bot.webhook.payloads import (
    CommentEvent,
    Event,
    IssueEvent,
    IssuePayload,
    PullEvent,
    PullPayload,
    ReviewCommentEvent,
    ReviewEvent,
    User,
)

MAX_TITLE = 1_024  # characters that are read; GitHub allows 256
MAX_TEXT = 65_536  # characters that GitHub lets an issue's body have

# As GitHub's button to revert a pull request begins the new one's text.
_REVERTS = re.compile(r"Reverts (?P<repository>[\w.-]+/[\w.-]+)?#(?P<number>[1-9]\d{0,17})\b", re.ASCII)


class Rules(Record):
    """The operator's settings that decide about deliveries."""

    label: str = "troop"
    repositories: tuple[str, ...] = ()  # owner/name patterns; empty: all
    app_id: int = 0  # 0: a token is used instead of an App
    own_login: str = ""  # whose events are ignored as our own; empty: only comments with our marker are
    triggers: frozenset[Trigger] = frozenset(Trigger)  # what starts a run
    bots: tuple[str, ...] = ()  # logins of bots that are heard as people are, ours never

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(
            label=settings.label,
            repositories=settings.repositories,
            app_id=settings.app_id,
            own_login=settings.own_login(as_app=bool(settings.app_id)),
            triggers=frozenset(settings.triggers),
            bots=settings.bots_allowed,
        )

    def allows(self, repository: str) -> bool:
        """Whether the repository is on the allow-list. Case is ignored, as on GitHub."""
        name = repository.lower()
        return not self.repositories or any(fnmatch.fnmatchcase(name, p.lower()) for p in self.repositories)


# -- deciding ----------------------------------------------------------------------------------------------------


def decide(delivery: Delivery, rules: Rules) -> Decision:
    """The decision. Never raises: a payload of an unknown shape is ignored, with the reason."""
    what = f"{delivery.event}.{delivery.action}" if delivery.action else delivery.event
    handler = _HANDLERS.get(what) or _HANDLERS.get(delivery.event)
    if handler is None:
        return Ignore(reason=f"{what} is not handled")
    try:
        return handler(delivery, rules)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Ignore(reason=f"the payload of {what} does not match GitHub's documentation: {where}: {first['msg']}")


def _pong(delivery: Delivery, rules: Rules) -> Decision:
    return Answer(message="pong")


def _installation(delivery: Delivery, rules: Rules) -> Decision:
    known = {
        "created": "welcome; label an issue to start",
        "deleted": "uninstalled",
        "suspend": "suspended",
        "unsuspend": "no longer suspended",
        "new_permissions_accepted": "new permissions accepted",
        "added": "repositories added",
        "removed": "repositories removed",
    }
    return Answer(message=known.get(delivery.action or "", f"{delivery.event} noted"))


def _labeled(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.label is None or not _same(event.label.name, rules.label):
        return Ignore(reason=f"the label is not {rules.label!r}")
    return _start(event, Trigger.LABEL, rules)


def _assigned(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.assignee is None or not _is_ours(event.assignee, rules):
        return Ignore(reason="the issue is not assigned to us")
    return _start(event, Trigger.ASSIGNMENT, rules)


def _unassigned(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.assignee is None or not _is_ours(event.assignee, rules):
        return Ignore(reason="the assignment was not ours")
    if (
        refusal := _off(Trigger.ASSIGNMENT, rules)
        or _refuse_source(event, rules)
        or _refuse_sender(event.sender, rules)
    ):
        return refusal
    return _cancel(event, "the assignment was removed")


def _start(event: IssueEvent, trigger: Trigger, rules: Rules) -> Decision:
    if refusal := _off(trigger, rules) or _refuse_source(event, rules) or _refuse_sender(event.sender, rules):
        return refusal
    if refusal := _refuse_issue(event.issue, trigger):
        return refusal
    return StartRun(
        repository=event.repository.full_name,
        installation_id=_installation_id(event, rules),
        issue=_snapshot(event.issue),
        sender=event.sender.login,
        labelled_at=event.issue.updated_at,
        repository_id=event.repository.id,
        trigger=trigger,
    )


def _refuse_issue(issue: IssuePayload, trigger: Trigger) -> Ignore | None:
    if issue.pull_request is not None:
        return Ignore(reason=f"the {trigger.value} is on a pull request, not on an issue")
    if issue.state != "open":
        return Ignore(reason=f"the issue is {issue.state[:20]}; open it first")
    return None


def _off(trigger: Trigger, rules: Rules) -> Ignore | None:
    if trigger not in rules.triggers:
        return Ignore(reason=f"{trigger.value} is not in TROOP_TRIGGERS")
    return None


def _unlabeled(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    ours = (rules.label, f"{rules.label}: running")
    if event.label is None or not any(_same(event.label.name, label) for label in ours):
        return Ignore(reason=f"the label is not {rules.label!r}")
    if refusal := _refuse_source(event, rules) or _refuse_sender(event.sender, rules):
        return refusal
    # With a token, which may be a person's own, our change of labels has that person as its sender. Then another of
    # our labels is on the issue, since the forge adds the new label before it removes the old one.
    states = [label.name for label in event.issue.labels if label.name.lower().startswith(f"{rules.label.lower()}: ")]
    if states and not rules.app_id:
        return Ignore(reason=f"the label was replaced by {states[0][:50]!r}")
    return _cancel(event, "the label was removed")


def _gone(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if refusal := _refuse_source(event, rules):
        return refusal
    # Other bots may close issues, too. Only our own events are no reason to stop.
    if _is_ours(event.sender, rules):
        return Ignore(reason="our own event")
    return _cancel(event, f"the issue was {delivery.action}")


def _comment(delivery: Delivery, rules: Rules) -> Decision:
    event = CommentEvent.model_validate(delivery.payload)
    if refusal := _refuse_source(event, rules) or _refuse_sender(event.sender, rules):
        return refusal
    comment = event.comment
    if comment.user is None or comment.user.login != event.sender.login:
        return Ignore(reason="the comment's author is not the sender")
    if refusal := _refuse_sender(comment.user, rules):
        return refusal
    if rules.app_id and comment.performed_via_github_app and comment.performed_via_github_app.id == rules.app_id:
        return Ignore(reason="the comment was written through our own App")
    body = comment.body or ""
    if body.startswith(OUR_COMMENT):
        return Ignore(reason="the comment is one of our own")
    command = slash_command.parse(body)
    if command is None:
        found = _mention(body, event, rules)
        if isinstance(found, Ignore | StartRun):
            return found
        command = found
    return ReceiveCommand(
        repository=event.repository.full_name,
        installation_id=_installation_id(event, rules),
        issue_number=event.issue.number,
        comment_id=comment.id,
        sender=event.sender.login,
        command=command,
        repository_id=event.repository.id,
    )


def _mention(body: str, event: CommentEvent, rules: Rules) -> Command | Ignore | StartRun:
    """What a comment without a `/troop` command asks for by mentioning us."""
    own = rules.own_login.removesuffix("[bot]")
    found = mention.find(body, own) if own else None
    if found is None:
        return Ignore(reason="the comment has no command")
    if refusal := _off(Trigger.MENTION, rules):
        return refusal
    if found.command is not None:
        return found.command
    if refusal := _refuse_issue(event.issue, Trigger.MENTION):
        on_pull = event.issue.pull_request is not None
        return Command(name=CommandName.HELP) if found.addressed and on_pull else refusal
    words = clean(body)
    said = IssueComment(author=event.sender.login, body=words.text)
    issue = _snapshot(event.issue)
    flags = tuple(sorted({*issue.flags, *words.flags}))
    return StartRun(
        repository=event.repository.full_name,
        installation_id=_installation_id(event, rules),
        issue=issue.model_copy(update={"comments": (said,), "flags": flags}),
        sender=event.sender.login,
        labelled_at=event.comment.created_at or event.issue.updated_at,
        repository_id=event.repository.id,
        trigger=Trigger.MENTION,
        comment_id=event.comment.id,
        in_passing=not found.addressed,
    )


def _reviewed(delivery: Delivery, rules: Rules) -> Decision:
    event = ReviewEvent.model_validate(delivery.payload)
    if event.review.state.casefold() == "approved":
        if refusal := _refuse_review(event, event.pull_request, event.review.user, rules):
            return refusal
        return _judge(delivery, event, event.pull_request.number, Act.APPROVED, rules)
    if event.review.state.casefold() not in ("commented", "changes_requested"):
        return Ignore(reason=f"a review that is {event.review.state[:20]} asks for nothing")
    return _revise(event, event.pull_request, event.review.id, event.review.user, rules)


def _review_comment(delivery: Delivery, rules: Rules) -> Decision:
    """Its review arrives as `pull_request_review`, too; whichever comes first is taken."""
    event = ReviewCommentEvent.model_validate(delivery.payload)
    review = event.comment.pull_request_review_id
    if review is None:
        return Ignore(reason="the comment belongs to no review")
    return _revise(event, event.pull_request, review, event.comment.user, rules)


def _refuse_review(event: Event, pull: PullPayload, author: User | None, rules: Rules) -> Ignore | None:
    if refusal := _refuse_source(event, rules) or _refuse_sender(event.sender, rules):
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
        repository=event.repository.full_name,
        installation_id=_installation_id(event, rules),
        issue_number=pull.number,
        comment_id=review,
        source="review",
        sender=event.sender.login,
        command=Command(name=CommandName.REVISE),
        repository_id=event.repository.id,
    )


def _pull_ended(delivery: Delivery, rules: Rules) -> Decision:
    """A pull request of ours was closed or opened again, or another one was merged that reverts it."""
    event = PullEvent.model_validate(delivery.payload)
    pull = event.pull_request
    if refusal := _refuse_source(event, rules):
        return refusal
    if pull.merged and delivery.action == "closed" and not _is_ours(event.sender, rules):
        # Whoever merges may write; a merge queue is a bot.
        if _is_our_pull(pull, rules):
            return _judge(delivery, event, pull.number, Act.MERGED, rules)
        if (reverted := _reverted(pull, event.repository.full_name)) is not None:
            return _judge(delivery, event, reverted, Act.REVERTED, rules)
    if not _is_our_pull(pull, rules):
        return Ignore(reason="the pull request is not ours")
    if refusal := _refuse_sender(event.sender, rules):
        return refusal
    return _judge(delivery, event, pull.number, Act.CLOSED if delivery.action == "closed" else Act.REOPENED, rules)


def _reverted(pull: PullPayload, repository: str) -> int | None:
    """The number of the pull request of this repository that this one reverts. Only a branch of the repository itself
    counts: a fork's text is a stranger's."""
    if pull.head.repo is None or not _same(pull.head.repo.full_name, repository):
        return None
    found = _REVERTS.match((pull.body or "").lstrip())
    if found is None or not _same(found["repository"] or repository, repository):
        return None
    return int(found["number"])


def _judge(delivery: Delivery, event: Event, pull: int, act: Act, rules: Rules) -> ReceiveCommand:
    return ReceiveCommand(
        repository=event.repository.full_name,
        installation_id=_installation_id(event, rules),
        issue_number=pull,
        comment_id=int.from_bytes(hashlib.sha256(delivery.guid.encode()).digest()[:8]) >> 1,  # 63 bits
        source="judgement",
        sender=event.sender.login,
        command=Command(name=CommandName.JUDGE, act=act),
        repository_id=event.repository.id,
    )


def _opened(delivery: Delivery, rules: Rules) -> Decision:
    return Ignore(reason="labels of a new issue arrive as issues.labeled")


def _edited(delivery: Delivery, rules: Rules) -> Decision:
    """People with write permission may edit our comments: a question of ours is answered by ticking a box."""
    event = CommentEvent.model_validate(delivery.payload)
    if refusal := _refuse_source(event, rules) or _refuse_sender(event.sender, rules):
        return refusal
    comment, body = event.comment, event.comment.body or ""
    written_by_us = comment.user is not None and _is_ours(comment.user, rules)
    if body.startswith(OUR_QUESTION) and (written_by_us or not rules.own_login):
        option = slash_command.ticked(body)
        if option is None:
            return Ignore(reason="no box, or both, of the question are ticked")
        return ReceiveCommand(
            repository=event.repository.full_name,
            installation_id=_installation_id(event, rules),
            issue_number=event.issue.number,
            comment_id=comment.id,
            source="question",
            sender=event.sender.login,
            command=Command(name=CommandName.ANSWER, option=option),
            repository_id=event.repository.id,
        )
    return Ignore(reason="edited comments are not read for commands; write a new one")


_HANDLERS: dict[str, Callable[[Delivery, Rules], Decision]] = {
    "ping": _pong,
    "installation": _installation,
    "installation_repositories": _installation,
    "issues.labeled": _labeled,
    "issues.unlabeled": _unlabeled,
    "issues.assigned": _assigned,
    "issues.unassigned": _unassigned,
    "issues.closed": _gone,
    "issues.transferred": _gone,
    "issues.deleted": _gone,
    "issues.opened": _opened,
    "issue_comment.created": _comment,
    "issue_comment.edited": _edited,
    "pull_request.closed": _pull_ended,
    "pull_request.reopened": _pull_ended,
    "pull_request_review.submitted": _reviewed,
    "pull_request_review_comment.created": _review_comment,
}


def _refuse_source(event: Event, rules: Rules) -> Ignore | None:
    if not rules.allows(event.repository.full_name):
        return Ignore(reason=f"{event.repository.full_name} is not in TROOP_REPOSITORIES")
    if event.repository.archived:
        return Ignore(reason=f"{event.repository.full_name} is archived")
    if event.installation is not None and event.installation.suspended_at is not None:
        return Ignore(reason=f"installation {event.installation.id} is suspended")
    if rules.app_id and event.installation is None:
        return Ignore(
            reason="the payload has no installation: it comes from a repository's webhook, not from the App's; "
            "set the webhook in the App's settings, or use TROOP_TOKEN instead of TROOP_APP_ID"
        )
    return None


def _refuse_sender(user: User, rules: Rules) -> Ignore | None:
    if _is_ours(user, rules):
        return Ignore(reason="our own event")
    listed = any(_same(user.login, bot) for bot in rules.bots)
    if not listed and (user.type == "Bot" or user.login.endswith("[bot]")):
        return Ignore(reason=f"{user.login} is a bot")
    return None


def _is_our_pull(pull: PullPayload, rules: Rules) -> bool:
    by_us = not rules.own_login or (pull.user is not None and _is_ours(pull.user, rules))
    return by_us and pull.head.ref.startswith(OUR_BRANCHES)


def _is_ours(user: User, rules: Rules) -> bool:
    return bool(rules.own_login) and _same(user.login, rules.own_login)


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _installation_id(event: Event, rules: Rules) -> int | None:
    return event.installation.id if rules.app_id and event.installation else None


def _cancel(event: IssueEvent, reason: str) -> CancelRun:
    return CancelRun(
        repository=event.repository.full_name,
        issue_number=event.issue.number,
        reason=reason,
        repository_id=event.repository.id,
        at=event.issue.updated_at,
    )


def _snapshot(issue: IssuePayload) -> Issue:
    """The issue as the delivery has it, without what its readers don't see."""
    return clean_issue(
        issue.title[:MAX_TITLE],
        (issue.body or "")[:MAX_TEXT],
        number=issue.number,
        author=issue.user.login if issue.user else "ghost",
        url=issue.html_url,
    )
