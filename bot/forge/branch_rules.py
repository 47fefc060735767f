"""GitHub's rules for a branch, and which of them would refuse what Troop pushes, asked before anything is spent.

https://docs.github.com/rest/repos/rules#get-rules-for-a-branch
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bot.forge.api import GitHubApi
from bot.forge.request import path_of
from bot.git.commit import Author
from bot.records import BranchRule, Record

_READ = {"metadata": "read"}
_BRANCH = {"contents": "read"}
_EVERYTHING = frozenset(("*", "**", "**/*"))
_SIGNER = "noreply@github.com"  # the committer's address where GitHub signs


class Push(Record):
    """What is to be pushed, as far as rules ask for it."""

    branch: str
    message: str
    author: str  # addresses
    committer: str
    signed: bool
    exists: bool  # the branch does
    adds: bool  # a commit to the branch, and replaces none


class GitHubBranchRules:
    """`bot.contracts.BranchRules` on GitHub."""

    def __init__(self, api: GitHubApi, author: Callable[[str], Awaitable[Author]]) -> None:
        self._api = api
        self._author = author

    async def hindering_rules(
        self, repository: str, branch: str, message: str, *, adds: bool
    ) -> tuple[BranchRule, ...]:
        rules = await self._ask("rules", repository, _READ, "rules", "branches", branch) or []
        if not rules:
            return ()
        email = (await self._author(repository)).email
        signed = self._api.is_app
        push = Push(
            branch=branch,
            message=message,
            author=email,
            committer=_SIGNER if signed else email,
            signed=signed,
            exists=await self._ask("branch", repository, _BRANCH, "git", "ref", f"heads/{branch}") is not None,
            adds=adds,
        )
        hindering = [rule for rule in rules if hinders(rule, push)]
        rulesets = {rule["ruleset_id"]: rule for rule in hindering if rule.get("ruleset_id")}
        known = {number: await self._ask("ruleset", repository, _READ, "rulesets", number) for number in rulesets}
        return tuple(
            _rule(rule, ruleset)
            for rule in hindering
            if (ruleset := known.get(rule.get("ruleset_id")) or {}).get("current_user_can_bypass")
            not in ("always", "exempt")
        )

    async def _ask(self, what: str, repository: str, permissions: dict[str, str], *path: str | int) -> Any:
        return await self._api.found(what, repository, permissions, path_of(repository, *path))


def hinders(rule: Mapping[str, Any], push: Push) -> bool:
    """Whether the rule refuses the push. Pure; a rule that can't be judged here does not."""
    asked = rule.get("parameters") or {}
    match rule["type"]:
        case "creation":
            return not push.exists
        case "update":
            return push.exists
        case "non_fast_forward":
            return push.exists and not push.adds
        case "required_signatures":
            return not push.signed
        case "pull_request" | "merge_queue" | "required_deployments" | "code_scanning":
            return True
        case "required_status_checks" | "workflows":
            return push.exists or not asked.get("do_not_enforce_on_create")
        case "branch_name_pattern":
            return not _meets(asked, push.branch)
        case "commit_message_pattern":
            return not _meets(asked, push.message)
        case "commit_author_email_pattern":
            return not _meets(asked, push.author)
        case "committer_email_pattern":
            return not _meets(asked, push.committer)
        case "file_path_restriction":
            return not _EVERYTHING.isdisjoint(asked.get("restricted_file_paths") or ())
        case _:
            return False


def _meets(asked: Mapping[str, Any], text: str) -> bool:
    """Whether the text meets a rule with a pattern; a pattern of another dialect than Python's is taken as met."""
    pattern = str(asked["pattern"])
    match asked["operator"]:
        case "starts_with":
            found = text.startswith(pattern)
        case "ends_with":
            found = text.endswith(pattern)
        case "contains":
            found = pattern in text
        case _:
            try:
                found = re.search(pattern, text) is not None
            except re.error:
                return True
    return found is not bool(asked.get("negate"))


def _rule(rule: Mapping[str, Any], ruleset: Mapping[str, Any]) -> BranchRule:
    asked = rule.get("parameters") or {}
    pattern = f"{asked['operator']} {asked['pattern']}" if "pattern" in asked else ""
    return BranchRule(
        type=rule["type"],
        ruleset=str(ruleset.get("name") or ""),
        source=str(rule.get("ruleset_source") or ""),
        pattern=f"not {pattern}" if pattern and asked.get("negate") else pattern,
    )
