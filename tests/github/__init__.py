"""The one GitHub for tests and the demo: real HTTP, real git, signed webhooks, and pages to look at.

    with GitHubServer.running(folder) as github:
        github.create_repository("olive/tools", {"a.py": "x = 1\\n"})
        number = github.open_issue("olive/tools", "x is wrong", "It should be 2.")
        github.label("olive/tools", number, "troop")

or, as a process of its own, `python -m tests.github --port 8300 --data DIR`.
"""

from tests.github.server import GitHubServer

__all__ = ["GitHubServer"]
