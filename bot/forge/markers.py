"""Hidden markers: HTML comments by which a comment of ours is found again. Every comment of ours begins with one."""

import re

from bot.contracts import OUR_COMMENT
from bot.records import CommandName

ANY_MARKER = re.compile(rf"{OUR_COMMENT}\b")
_ISSUE = re.compile(r"<!-- troop:issue=([1-9][0-9]{0,17}) -->")

STATUS = "<!-- troop:status -->"  # the one comment that is edited as runs go
ALTERNATIVES = "<!-- troop:alternatives -->"


def issue_marker(number: int) -> str:
    """Stands first in a pull request's body: the issue that it answers."""
    return f"<!-- troop:issue={number} -->"


def issue_of(body: str) -> int | None:
    """The issue that the marker in a pull request's body names."""
    found = _ISSUE.match(body)
    return int(found[1]) if found else None


def answer_marker(command_id: int, name: CommandName) -> str:
    """Of the answer to one command: executed twice, it is answered once."""
    return f"<!-- troop:answer={command_id} {name} -->"


def refusal_marker(login: str) -> str:
    """Of the one reply to somebody who may not give commands."""
    return f"<!-- troop:may-not={login} -->"
