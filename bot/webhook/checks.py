"""Decides about checks of our own commits that have ended: the worker looks at them all. Pure."""

import re

from bot.contracts import OUR_BRANCHES
from bot.records import Command, CommandName
from bot.webhook.decisions import Decision, Ignore, ReceiveCommand
from bot.webhook.delivery import Delivery
from bot.webhook.payloads import CheckEvent, Event, StatusEvent
from bot.webhook.rules import Rules, origin, refuse_source

_OF_ISSUE = re.compile(rf"{OUR_BRANCHES}issue-([1-9][0-9]{{0,17}})(?:-|$)")


def checked(delivery: Delivery, rules: Rules) -> Decision:
    """Which checks failed, and whether all have ended, GitHub tells the worker: the last to end may have passed."""
    event = CheckEvent.model_validate(delivery.payload)
    found = event.check_suite or event.check_run or event.workflow_run
    branch = None if found is None else found.head_branch or found.check_suite.head_branch
    if found is None or branch is None:
        return Ignore(reason="the checks are of no branch")
    return _look(delivery, event, branch, found.head_sha, rules)


def status(delivery: Delivery, rules: Rules) -> Decision:
    """Of `status`: the worker looks at all checks of the commit, if it is the newest of a branch of ours."""
    event = StatusEvent.model_validate(delivery.payload)
    if event.state == "pending":
        return Ignore(reason="the status is pending")
    for branch in event.branches:
        if branch.commit.sha == event.sha and branch.name.startswith(OUR_BRANCHES):
            return _look(delivery, event, branch.name, event.sha, rules)
    return Ignore(reason="the status is not of the newest commit of a branch of ours")


def _look(delivery: Delivery, event: Event, branch: str, commit: str, rules: Rules) -> Decision:
    """The sender is whatever runs the checks, often a bot: it may not start anything, but only has the worker look."""
    if refusal := refuse_source(event, rules):
        return refusal
    of_issue = _OF_ISSUE.match(branch)
    if of_issue is None:
        return Ignore(reason="the branch is not ours")
    return ReceiveCommand(
        **origin(event, rules),
        issue_number=int(of_issue[1]),
        comment_id=delivery.number,  # each time that checks end is looked at: there is no id that counts those
        source="checks",
        command=Command(name=CommandName.CHECKS, branch=branch, commit=commit),
    )
