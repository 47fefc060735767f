"""Hidden markers: the HTML comment at the start of every comment of ours, by which it is found again."""

import re

from bot.contracts import OUR_COMMENT
from bot.records import CommandName

ANY_MARKER = re.compile(rf"{OUR_COMMENT}\b")
_ISSUE = re.compile(r"<!-- troop:issue=([1-9][0-9]{0,17}) -->")

STATUS = "<!-- troop:status -->"  # the one comment that is edited as runs go
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


def refusal_marker(login: str) -> str:
    """Marks the one reply to somebody who may not give commands."""
    return f"<!-- troop:may-not={login} -->"
