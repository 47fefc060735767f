"""Hidden markers: the HTML comment at the start of every comment of ours, by which it is found again."""

import re

from bot.contracts import OUR_COMMENT, OUR_QUESTION
from bot.records import CommandName

ANY_MARKER = re.compile(rf"{OUR_COMMENT}\b")
_ISSUE = re.compile(r"<!-- troop:issue=([1-9][0-9]{0,17}) -->")

STATUS = "<!-- troop:status -->"  # the one comment that is edited as runs go
CHECKS = "<!-- troop:checks -->"  # the one comment about checks that fail on the base commit as well
ALTERNATIVES = "<!-- troop:alternatives -->"


def issue_marker(number: int) -> str:
    """The first line of a pull request's body: which issue it answers."""
    return f"<!-- troop:issue={number} -->"


def issue_of(body: str) -> int | None:
    """The issue that the marker in a pull request's body names."""
    found = _ISSUE.match(body)
    return int(found[1]) if found else None


def answer_marker(command_id: int, name: CommandName) -> str:
    """Marks the answer to one command: a command executed twice is answered once."""
    return f"<!-- troop:answer={command_id} {name} -->"


def question_marker(run_id: int) -> str:
    """Marks the one question of a run that abstained, with its boxes to tick."""
    return f"{OUR_QUESTION}{run_id} -->"


def reply_marker(run_id: int) -> str:
    """Marks the reply of one revision in a thread of a review."""
    return f"<!-- troop:reply={run_id} -->"


def revision_marker(run_id: int) -> str:
    """Marks the comment with a revision's count, on the pull request."""
    return f"<!-- troop:revision={run_id} -->"


def refusal_marker(login: str) -> str:
    """Marks the one reply to somebody who may not give commands."""
    return f"<!-- troop:may-not={login} -->"
