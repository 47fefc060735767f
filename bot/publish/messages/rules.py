"""Rules of a repository that would refuse a push, in words with what to do."""

from collections.abc import Sequence

from bot.publish.messages.words import listed
from bot.records import BranchRule

_SAYS = {
    "creation": "restricts who creates it",
    "update": "restricts who updates it",
    "non_fast_forward": "forbids to replace the commit of an earlier run, which is on it",
    "required_signatures": "requires signed commits, which Troop makes only as a GitHub App",
    "pull_request": "requires a pull request for each change of it",
    "merge_queue": "requires a merge queue",
    "required_deployments": "requires deployments first",
    "code_scanning": "requires code scanning first",
    "required_status_checks": "requires checks before a commit is on it",
    "workflows": "requires workflows before a commit is on it",
    "branch_name_pattern": "does not allow this name",
    "commit_message_pattern": "does not allow the message of Troop's commits",
    "commit_author_email_pattern": "does not allow the address of Troop's commits",
    "committer_email_pattern": "does not allow the committer's address of Troop's commits",
    "file_path_restriction": "restricts all files",
}


def hindered(branch: str, rules: Sequence[BranchRule]) -> str:
    """Which rules stand in the way, and how to let Troop push; one line."""
    said = listed(list(dict.fromkeys(_in_words(rule) for rule in rules)))
    return (
        f"Troop could not push its branch {branch}: {said}. No model was asked. Let Troop bypass what is named, or "
        "exclude the branches troop/** from it, then ask again"
    )


def _in_words(rule: BranchRule) -> str:
    name = f'the ruleset "{rule.ruleset}"' if rule.ruleset else "a rule"
    of = f" of {rule.source}" if rule.source else ""
    pattern = f" ({rule.type}: {rule.pattern})" if rule.pattern else f" ({rule.type})"
    return f"{name}{of} {_SAYS[rule.type]}{pattern}"
