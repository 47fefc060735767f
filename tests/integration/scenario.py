"""One planted bug and a model that finds it: what the whole-run tests solve. Also read where there is no pytest."""

import re
from collections.abc import Sequence

from bot.records import Issue, Message
from bot.webhook.decisions import StartRun
from tests.github.server import GitHubServer

REPOSITORY = "octo/mill"
TITLE = "clamp ignores the upper bound"
BODY = "`clamp(5, 1, 3)` from `mill/num.py` returns 1, but 3 is expected."
FILES = {
    "mill/__init__.py": "",
    "mill/num.py": (
        "def clamp(value, low, high):\n    if value < low:\n        return low\n"
        "    if value > high:\n        return low\n    return value\n"
    ),
    "tests/test_num.py": "from mill.num import clamp\n\n\ndef test_low():\n    assert clamp(0, 1, 3) == 1\n",
}
CHECK = "from mill.num import clamp\nassert [clamp(n, 2, 4) for n in range(7)] == [2, 2, 2, 3, 4, 4, 4]\n"
_BROKEN = "    if value > high:\n        return "


def script(key: str, messages: Sequence[Message]) -> str:
    """The replies: three in four trajectories end with a right edit, and their tests differ."""
    found = re.search(r"trajectory/(\d+)/", key)
    index = int(found[1]) if found else 0
    if key.startswith("relevance"):
        return "<relevant>clamp</relevant>"
    if "/test/" in key:
        test = f'<test path="test_issue.py">\nfrom mill.num import clamp\nassert clamp({5 + index}, 1, 3) == 3\n</test>'
        return test if len(messages) <= 2 else "<approve/>"
    if "/edit/" in key:
        new = "low + 2" if index % 4 == 3 else "high"
        edit = f"<<<<<<< SEARCH\n{_BROKEN}low\n=======\n{_BROKEN}{new}\n>>>>>>> REPLACE"
        return f'<edit path="mill/num.py">\n{edit}\n</edit>' if len(messages) <= 2 else "<done/>"
    return "<choose>1</choose>"


def plant(server: GitHubServer) -> int:
    """The repository and its issue; the issue's number."""
    server.create_repository(REPOSITORY, FILES)
    server.set_permission(REPOSITORY, "maintainer", "write")
    return server.open_issue(REPOSITORY, TITLE, BODY)


def start_run(server: GitHubServer, number: int) -> StartRun:
    """What the label comes to, as the webhook decides it."""
    issue = server.issue(REPOSITORY, number)
    return StartRun(
        repository=REPOSITORY,
        installation_id=server.installation_id(REPOSITORY),
        issue=Issue(title=issue["title"], body=issue["body"], number=number, author=issue["user"]["login"]),
        sender="maintainer",
        labelled_at=issue["updated_at"],
    )
