"""Names of branches, and their push. A name depends on the issue alone, so a run published twice has one branch."""

import re
import unicodedata
from pathlib import Path

from bot.contracts import OUR_BRANCHES, RepositoryHost
from bot.errors import BranchTaken
from bot.records import Checkout, Issue, Patch, Record, Report

PREFIX = OUR_BRANCHES
_SLUG = 40  # characters
_PULL_NUMBER = re.compile(r"/pull/([1-9][0-9]*)$")


def branch_of(issue: Issue, base: str = "") -> str:
    """`troop/issue-12-short-title`, and for another base than the default branch `...-on-release-1-x`. Only letters and
    digits of the title are kept (attack 18)."""
    on = f"on-{_slug(base)}" if base else ""
    return f"{PREFIX}{'-'.join(part for part in ('issue', str(issue.number), _slug(issue.title), on) if part)}"


def other_branch_of(report: Report) -> str:
    """The branch where people have committed to the first one. The winner's id is part of its name."""
    winner = report.verdict.winner
    patch = report.verdict.ballot.candidates[winner].patch.id if winner is not None else "none"
    return f"{branch_of(report.issue, report.base_branch)}-{patch[:8]}"


def local_branch_of(issue: Issue, patch: Patch) -> str:
    """`troop/short-title-1a2b3c4d`, where issues have no numbers; each patch has its own branch."""
    return f"{PREFIX}{_slug(issue.title) or 'issue'}-{patch.id[:8]}"


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG].strip("-")


class Pushed(Record):
    """Where a run's commit is."""

    branch: str
    commit: str  # as it is there


async def push_branch(host: RepositoryHost, repository: str, checkout: Checkout, report: Report, commit: str) -> Pushed:
    """Push the commit as the run's branch. People's own commits are never pushed over."""
    workspace = Path(checkout.workspace)
    branch = report.revision.branch if report.revision else branch_of(report.issue, report.base_branch)
    try:
        pushed = await host.push(repository, workspace, branch, commit, force=True)
    except BranchTaken:
        branch = other_branch_of(report)
        pushed = await host.push(repository, workspace, branch, commit, force=True)
    return Pushed(branch=branch, commit=pushed)


def pull_number(url: str) -> int | None:
    """The number at the end of a pull request's URL; None for none."""
    found = _PULL_NUMBER.search(url)
    return int(found[1]) if found else None
