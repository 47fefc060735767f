"""The onboarding pull request: a `.troop.toml` made by looking at the repository, on its maintainers' request."""

from pathlib import Path

from bot.contracts import Forge
from bot.forge.branches import PREFIX
from bot.publish.messages import onboarding
from bot.publish.messages.onboarding import Proposal
from bot.records import Checkout

BRANCH = f"{PREFIX}onboarding"


async def open_onboarding(forge: Forge, repository: str, checkout: Checkout, proposal: Proposal, label: str) -> str:
    """Push the proposal as a branch, and open its pull request, or bring it up to date; its URL.

    Raises `BranchTaken` where people have committed to the branch, and `ForgeError`.
    """
    text = onboarding.config_text(proposal)
    commit = await forge.commit_config(checkout, text, onboarding.COMMIT_MESSAGE)
    await forge.push(repository, Path(checkout.workspace), BRANCH, commit, force=True)
    body = onboarding.body(proposal, label)
    return await forge.pull_request(repository, BRANCH, onboarding.TITLE, body, draft=False)
