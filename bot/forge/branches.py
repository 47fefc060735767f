"""What branches are called, a function of the issue, so that a run published twice has one branch; and their push."""

import re
import unicodedata
from pathlib import Path

from bot.contracts import RepositoryHost
from bot.errors import BranchTaken
from bot.records import Checkout, Issue, Patch, Report

PREFIX = "troop/"  # what every branch of ours begins with; no other is ever written
_SLUG = 40  # characters
_PULL_NUMBER = re.compile(r"/pull/([1-9][0-9]*)$")


def branch_of(issue: Issue) -> str:
    """`troop/issue-12-short-title`. Nothing of the title but letters and digits gets through (attack 18)."""
    return f"{PREFIX}{'-'.join(part for part in ('issue', str(issue.number), _slug(issue.title)) if part)}"


def other_branch_of(report: Report) -> str:
    """Where the first one was taken over by people: named after the winner too, so that it is another every time."""
    winner = report.verdict.winner
    patch = report.verdict.ballot.candidates[winner].patch.id if winner is not None else "none"
    return f"{branch_of(report.issue)}-{patch[:8]}"


def local_branch_of(issue: Issue, patch: Patch) -> str:
    """`troop/short-title-1a2b3c4d`, where issues have no numbers: another patch is another branch."""
    return f"{PREFIX}{_slug(issue.title) or 'issue'}-{patch.id[:8]}"


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG].strip("-")


async def push_branch(host: RepositoryHost, repository: str, checkout: Checkout, report: Report, commit: str) -> str:
    """Push the commit as the run's branch; its name. People's own commits are never pushed over."""
    workspace = Path(checkout.workspace)
    branch = branch_of(report.issue)
    try:
        await host.push(repository, workspace, branch, commit, force=True)
    except BranchTaken:
        branch = other_branch_of(report)
        await host.push(repository, workspace, branch, commit, force=True)
    return branch


def pull_number(url: str) -> int | None:
    """The number at the end of a pull request's URL; None for none."""
    found = _PULL_NUMBER.search(url)
    return int(found[1]) if found else None
