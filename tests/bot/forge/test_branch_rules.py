"""A repository's rules, compared with what would be pushed."""

from typing import Any

import pytest
from pydantic import SecretStr

from bot.forge.branch_rules import Push, hinders
from bot.publish.hindered import hindered_by_rules
from bot.publish.messages.rules import _SAYS
from tests.bot.sample import claimed_run
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

REPO = "olive/tools"
NEW = Push(
    branch="troop/issue-1-x",
    message="Fix: x is wrong\n\nWhy.",
    author="1+troop[bot]@users.noreply.github.com",
    committer="noreply@github.com",
    signed=True,
    exists=False,
    adds=False,
)
AGAIN = NEW.model_copy(update={"exists": True})
ADDED = AGAIN.model_copy(update={"adds": True})
UNSIGNED = NEW.model_copy(update={"signed": False})


def text(kind: str, operator: str, pattern: str, *, negate: bool = False) -> dict[str, Any]:
    return {"type": kind, "parameters": {"operator": operator, "pattern": pattern, "negate": negate}}


@pytest.mark.parametrize(
    ("rule", "push", "refused"),
    [
        ({"type": "creation"}, NEW, True),
        ({"type": "creation"}, AGAIN, False),
        ({"type": "update"}, NEW, False),
        ({"type": "update"}, ADDED, True),
        ({"type": "non_fast_forward"}, NEW, False),
        ({"type": "non_fast_forward"}, AGAIN, True),
        ({"type": "non_fast_forward"}, ADDED, False),
        ({"type": "required_signatures"}, NEW, False),
        ({"type": "required_signatures"}, UNSIGNED, True),
        ({"type": "pull_request", "parameters": {}}, NEW, True),
        ({"type": "required_status_checks", "parameters": {"do_not_enforce_on_create": True}}, NEW, False),
        ({"type": "required_status_checks", "parameters": {"do_not_enforce_on_create": True}}, ADDED, True),
        ({"type": "required_status_checks", "parameters": {}}, NEW, True),
        ({"type": "deletion"}, NEW, False),
        ({"type": "required_linear_history"}, NEW, False),
        ({"type": "a rule of next year"}, NEW, False),
        (text("branch_name_pattern", "starts_with", "feature/"), NEW, True),
        (text("branch_name_pattern", "regex", "^(feature|troop)/"), NEW, False),
        (text("branch_name_pattern", "contains", "issue", negate=True), NEW, True),
        (text("branch_name_pattern", "ends_with", "-x"), NEW, False),
        (text("commit_message_pattern", "regex", r"^[A-Z]+-\d+ "), NEW, True),
        (text("commit_message_pattern", "starts_with", "Fix: "), NEW, False),
        (text("commit_message_pattern", "regex", r"(?<name"), NEW, False),  # no pattern of Python's
        (text("commit_author_email_pattern", "ends_with", "@example.com"), NEW, True),
        (text("committer_email_pattern", "ends_with", "@github.com"), NEW, False),
        ({"type": "file_path_restriction", "parameters": {"restricted_file_paths": ["docs/**"]}}, NEW, False),
        ({"type": "file_path_restriction", "parameters": {"restricted_file_paths": ["**/*"]}}, NEW, True),
    ],
)
def test_hinders(rule: dict[str, Any], push: Push, refused: bool) -> None:
    assert hinders(rule, push) is refused
    assert not refused or rule["type"] in _SAYS


@pytest.fixture
def server(github: GitHubServer) -> GitHubServer:
    github.create_repository(REPO, {"a.py": "x = 1\n"})
    return github


async def said(server: GitHubServer, **more: Any) -> str:
    return await hindered_by_rules(forge_for(server, REPO, **more), claimed_run(REPO))


async def test_the_rule_and_the_way_out_are_named(server: GitHubServer) -> None:
    server.set_rules(
        REPO, {"type": "creation"}, text("commit_message_pattern", "regex", "^JIRA-"), {"type": "deletion"}
    )
    words = await said(server)
    assert 'the ruleset "Guard" of olive/tools restricts who creates it (creation)' in words
    assert "does not allow the message of Troop's commits (commit_message_pattern: regex ^JIRA-)" in words
    assert "Let Troop bypass what is named" in words
    assert "troop/**" in words


@pytest.mark.parametrize("bypass", ["always", "exempt"])
async def test_what_troop_may_bypass_is_no_hindrance(server: GitHubServer, bypass: str) -> None:
    server.set_rules(REPO, {"type": "creation"}, may_bypass=bypass)
    assert await said(server) == ""


async def test_pull_requests_alone_are_not_enough(server: GitHubServer) -> None:
    server.set_rules(REPO, {"type": "creation"}, may_bypass="pull_requests_only")
    assert "creation" in await said(server)


async def test_required_signatures_let_an_app_through_and_no_token(server: GitHubServer) -> None:
    server.set_rules(REPO, {"type": "required_signatures"})
    assert await said(server) == ""
    server.set_permission(REPO, "robin", "write")
    token = SecretStr(server.create_token("robin"))
    words = await said(server, token=token, token_login="robin", app_id=0, private_key=SecretStr(""))
    assert "requires signed commits, which Troop makes only as a GitHub App" in words


async def test_no_rules_and_an_older_server(server: GitHubServer) -> None:
    assert await said(server) == ""
    server.fault("GET", "/rules/branches/", status=404)
    assert await said(server) == ""
