"""Whether the repository's rules would refuse what a run publishes, asked before any model is."""

from bot.contracts import BranchRules
from bot.forge.branches import branch_of
from bot.publish.messages import pull_request
from bot.publish.messages import revision as messages
from bot.publish.messages.rules import hindered
from bot.records import ClaimedRun


async def hindered_by_rules(forge: BranchRules, run: ClaimedRun) -> str:
    """Which rules stand in the way, in words; "" where none does. Raises `ForgeError`."""
    if run.revision is None:
        branch, message = branch_of(run.issue), pull_request.message(run.issue)
    else:
        branch, message = run.revision.branch, messages.message(run.issue, run.revision)
    found = await forge.hindering_rules(run.repository, branch, message, adds=run.revision is not None)
    return hindered(branch, found) if found else ""
