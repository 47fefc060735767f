"""Reviews as GitHub tells them, and what a base commit differs in."""

from pathlib import Path

import pytest

from bot.forge.github import GitHubForge
from bot.git.checkout import check_out
from tests.github.fixtures import forge_for
from tests.github.server import GitHubServer

REPO = "olive/tools"
BRANCH = "troop/issue-1-x"
BODY = "<!-- troop:issue=1 -->\nFixes #1."


@pytest.fixture
async def forge(github: GitHubServer) -> GitHubForge:
    github.create_repository(REPO, {"a.py": "x = 1\ny = 2\n", "b.py": "gone\n"})
    github.open_issue(REPO, "x is wrong")
    github.commit(REPO, {"a.py": "x = 2\ny = 2\n", "b.py": None, "c.bin": b"\0\1", "d": "-> a.py"}, branch=BRANCH)
    forge = forge_for(github, REPO)
    await forge.pull_request(REPO, BRANCH, "Fix: x", BODY)
    return forge


async def test_a_review_has_its_own_authors_comments(github: GitHubServer, forge: GitHubForge) -> None:
    comments = [{"body": "why?", "path": "a.py", "line": 1}, {"body": "and here?", "path": "a.py", "line": 2}]
    first = github.review(REPO, 2, body="Hm.", comments=comments, user="wendy")
    thread = github.review_comments(REPO, 2)[0]["id"]
    reply = github.review(REPO, 2, "COMMENTED", comments=[{"body": "still", "in_reply_to": thread}], user="wendy")
    found = await forge.review(REPO, 2, first)
    assert (found.author, found.requests_changes, found.body) == ("wendy", True, "Hm.")
    assert [(one.body, one.path, one.line) for one in found.comments] == [("why?", "a.py", 1), ("and here?", "a.py", 2)]
    assert found.comments[0].hunk == "@@ -1,1 +1,1 @@\n+x = 2"
    later = await forge.review(REPO, 2, reply)
    assert [(one.body, one.thread) for one in later.comments] == [("still", thread)]
    assert not later.requests_changes


async def test_a_line_that_is_gone_is_the_one_that_was_commented(github: GitHubServer, forge: GitHubForge) -> None:
    review = github.review(REPO, 2, comments=[{"body": "why?", "path": "a.py", "line": 2}], user="wendy")
    github.commit(REPO, {"a.py": "x = 3\n"}, branch=BRANCH)
    (comment,) = (await forge.review(REPO, 2, review)).comments
    assert comment.line == 2


async def test_several_lines_have_a_first_and_removed_ones_no_number(github: GitHubServer, forge: GitHubForge) -> None:
    several = {"body": "both", "path": "a.py", "line": 2, "start_line": 1}
    comments = [several, {"body": "why gone?", "path": "a.py", "line": 1, "side": "LEFT"}]
    review = github.review(REPO, 2, comments=comments, user="wendy")
    for _ in range(2):
        both, gone = (await forge.review(REPO, 2, review)).comments
        assert [(one.first, one.line) for one in (both, gone)] == [(1, 2), (None, None)]
        github.commit(REPO, {"a.py": "x = 3\n"}, branch=BRANCH)


async def test_whose_pull_request_it_is(github: GitHubServer, forge: GitHubForge) -> None:
    state = await forge.pull_state(REPO, 2)
    assert (state.open, state.ours, state.branch, state.issue) == (True, True, BRANCH, 1)
    assert state.head == github.branches(REPO)[BRANCH]
    github.commit(REPO, {"a.py": "x = 9\n"}, branch="troop/theirs")
    github.world.open_pull(
        github.world.repository(REPO), "mallory", {"head": "troop/theirs", "base": "main", "title": "t", "body": BODY}
    )
    theirs = await forge.pull_state(REPO, 3)
    assert (theirs.ours, theirs.issue) == (False, 3), "the marker counts only in what we opened"
    github.edit_issue(REPO, 2, state="closed")
    assert not (await forge.pull_state(REPO, 2)).open


async def test_one_reply_a_thread_and_none_where_it_is_gone(github: GitHubServer, forge: GitHubForge) -> None:
    github.review(REPO, 2, comments=[{"body": "why?", "path": "a.py", "line": 1}], user="wendy")
    thread = github.review_comments(REPO, 2)[0]["id"]
    for _ in range(2):
        await forge.reply(REPO, 2, thread, "<!-- troop:reply=1 -->", "because @olive")
    await forge.reply(REPO, 2, thread + 1_000, "<!-- troop:reply=1 -->", "nobody reads it")
    bodies = [one["body"] for one in github.review_comments(REPO, 2)]
    assert len(bodies) == 2
    assert bodies[1].startswith("<!-- troop:reply=1 -->\nbecause")


async def test_what_turns_the_branch_into_its_base(github: GitHubServer, forge: GitHubForge, tmp_path: Path) -> None:
    head, base = github.branches(REPO)[BRANCH], github.branches(REPO)["main"]
    checkout = await check_out(forge, REPO, tmp_path / "it", head)
    changes = await forge.changes_to(REPO, checkout, base)
    assert [(one.path, one.text) for one in changes] == [
        ("a.py", "x = 1\ny = 2\n"),
        ("b.py", "gone\n"),
        ("c.bin", None),
        ("d", None),
    ]
    assert await forge.changes_to(REPO, checkout, head) == ()
