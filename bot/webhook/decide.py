"""Decides what to do about a verified delivery, without I/O: `decide(delivery, rules)` returns a decision.

The sender's permission is not checked here, since GitHub's payload doesn't give it reliably: the worker asks the
permission API before it does anything that costs.

A `/troop` comment on a pull request arrives as `issue_comment` with the number of the pull request, not of the issue.
`ReceiveCommand.issue_number` is the number of the conversation with the comment; the worker finds the issue from it.
"""

from collections.abc import Callable

from pydantic import ValidationError

from bot.contracts import OUR_COMMENT, OUR_QUESTION
from bot.records import Command, CommandName, Issue, IssueComment, Trigger
from bot.sanitize import clean, clean_issue
from bot.webhook import checks, mention, pulls, slash_command
from bot.webhook.decisions import Answer, CancelRun, Decision, Ignore, ReceiveCommand, StartRun, StopRuns
from bot.webhook.delivery import Delivery
from bot.webhook.payloads import CommentEvent, InstallationEvent, IssueEvent, IssuePayload
from bot.webhook.rules import Rules, is_ours, origin, refuse_sender, refuse_source, same

MAX_TITLE = 1_024  # characters that are read; GitHub allows 256
MAX_TEXT = 65_536  # characters that GitHub lets an issue's body have


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
    gone = {
        "deleted": "the App was uninstalled",
        "suspend": "the App was suspended",
        "removed": "the App may no longer see the repository",
    }
    if delivery.action in gone and rules.app_id:
        event = InstallationEvent.model_validate(delivery.payload)
        some = tuple(repository.id for repository in event.repositories_removed)
        # A delivery may be late, and the repository have been added again; an App that is installed again has a new id.
        at = event.installation.updated_at if delivery.action == "removed" else event.installation.suspended_at
        return StopRuns(
            installation_id=event.installation.id,
            reason=gone[delivery.action],
            repository_ids=some if delivery.action == "removed" else None,
            at=at,
        )
    known = {
        "created": "welcome; label an issue to start",
        "unsuspend": "no longer suspended",
        "new_permissions_accepted": "new permissions accepted",
        "added": "repositories added",
    }
    return Answer(message=known.get(delivery.action or "", f"{delivery.event} noted"))


def _labeled(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.label is None or not same(event.label.name, rules.label):
        return Ignore(reason=f"the label is not {rules.label!r}")
    return _start(event, Trigger.LABEL, rules)


def _assigned(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.assignee is None or not is_ours(event.assignee, rules):
        return Ignore(reason="the issue is not assigned to us")
    return _start(event, Trigger.ASSIGNMENT, rules)


def _unassigned(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if event.assignee is None or not is_ours(event.assignee, rules):
        return Ignore(reason="the assignment was not ours")
    if refusal := _off(Trigger.ASSIGNMENT, rules) or refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    return _cancel(event, "the assignment was removed", withdrawn=True)


def _start(event: IssueEvent, trigger: Trigger, rules: Rules) -> Decision:
    if refusal := _off(trigger, rules) or refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    if refusal := _refuse_issue(event.issue, trigger):
        return refusal
    return StartRun(
        **origin(event, rules), issue=_snapshot(event.issue), labelled_at=event.issue.updated_at, trigger=trigger
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
    if event.label is None or not any(same(event.label.name, label) for label in ours):
        return Ignore(reason=f"the label is not {rules.label!r}")
    if refusal := refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    # With a token, which may be a person's own, our change of labels has that person as its sender. Then another of
    # our labels is on the issue, since the forge adds the new label before it removes the old one.
    states = [label.name for label in event.issue.labels if label.name.lower().startswith(f"{rules.label.lower()}: ")]
    if states and not rules.app_id:
        return Ignore(reason=f"the label was replaced by {states[0][:50]!r}")
    return _cancel(event, "the label was removed", withdrawn=True)


def _gone(delivery: Delivery, rules: Rules) -> Decision:
    event = IssueEvent.model_validate(delivery.payload)
    if refusal := refuse_source(event, rules):
        return refusal
    # Other bots may close issues, too. Only our own events are no reason to stop.
    if is_ours(event.sender, rules):
        return Ignore(reason="our own event")
    return _cancel(event, f"the issue was {delivery.action}")


def _comment(delivery: Delivery, rules: Rules) -> Decision:
    event = CommentEvent.model_validate(delivery.payload)
    if refusal := refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    comment = event.comment
    if comment.user is None or comment.user.login != event.sender.login:
        return Ignore(reason="the comment's author is not the sender")
    if refusal := refuse_sender(comment.user, rules):
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
        **origin(event, rules), issue_number=event.issue.number, comment_id=comment.id, command=command
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
        **origin(event, rules),
        issue=issue.model_copy(update={"comments": (said,), "flags": flags}),
        labelled_at=event.comment.created_at or event.issue.updated_at,
        trigger=Trigger.MENTION,
        comment_id=event.comment.id,
        in_passing=not found.addressed,
    )


def _opened(delivery: Delivery, rules: Rules) -> Decision:
    return Ignore(reason="labels of a new issue arrive as issues.labeled")


def _edited(delivery: Delivery, rules: Rules) -> Decision:
    """People with write permission may edit our comments: a question of ours is answered by ticking a box."""
    event = CommentEvent.model_validate(delivery.payload)
    if refusal := refuse_source(event, rules) or refuse_sender(event.sender, rules):
        return refusal
    comment, body = event.comment, event.comment.body or ""
    written_by_us = comment.user is not None and is_ours(comment.user, rules)
    if body.startswith(OUR_QUESTION) and (written_by_us or not rules.own_login):
        option = slash_command.ticked(body)
        if option is None:
            return Ignore(reason="no box, or both, of the question are ticked")
        return ReceiveCommand(
            **origin(event, rules),
            issue_number=event.issue.number,
            comment_id=comment.id,
            source="question",
            command=Command(name=CommandName.ANSWER, option=option),
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
    "check_suite.completed": checks.checked,
    "check_run.completed": checks.checked,
    "workflow_run.completed": checks.checked,
    "status": checks.status,
    "pull_request.closed": pulls.ended,
    "pull_request.reopened": pulls.ended,
    "pull_request_review.submitted": pulls.reviewed,
    "pull_request_review_comment.created": pulls.review_comment,
}


def _cancel(event: IssueEvent, reason: str, *, withdrawn: bool = False) -> CancelRun:
    return CancelRun(
        repository=event.repository.full_name,
        issue_number=event.issue.number,
        reason=reason,
        repository_id=event.repository.id,
        at=event.issue.updated_at,
        withdrawn=withdrawn,
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
