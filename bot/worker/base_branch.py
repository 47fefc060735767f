"""Which commit a run works on: of the default branch, of the base branch that the config or a command names, or what
somebody reviewed. What a repository may decide is read from the default branch alone, whatever the commit is of."""

import asyncio
from pathlib import Path

from bot.contracts import Forge, Journal
from bot.errors import Refused
from bot.git.checkout import check_out
from bot.publish.runs import Runs
from bot.records import Checkout, ClaimedRun, FileChange, Record
from bot.repo_config import FILE_NAME
from bot.settings import Settings
from bot.solver.project import config_text, read_config, take_config


class Pinned(Record):
    """The commit that a run works on, from its first attempt to its last."""

    commit: str
    branch: str = ""  # that it was the newest of, where that is not the default branch; then ...
    config: str | None = None  # ... the default branch's `.troop.toml`


async def check_out_run(
    run: ClaimedRun, forge: Forge, folder: Path, journal: Journal, settings: Settings, runs: Runs
) -> Checkout:
    """The run's commit in `folder`, the same in each attempt. Raises `Refused` where there is no such base branch."""
    kept = await journal.get("commit")
    pinned = None if kept is None else Pinned.model_validate_json(kept)
    if pinned is not None and pinned.branch:
        return await _check_out_branch(run, forge, folder, pinned)
    commit = await _asked_for(run, forge, runs) if pinned is None else pinned.commit
    checkout = await check_out(forge, run.repository, folder, commit)
    if run.revision is not None:
        checkout = checkout.model_copy(update={"apart": f"#{run.revision.pull}"})
    base = "" if commit else await _base(run, checkout, settings)
    if base:
        tip = await forge.tip(run.repository, base)
        if not tip:
            by = "the command" if run.again is not None and run.again.base else FILE_NAME
            raise Refused(f"there is no branch {base!r} to work on, which {by} names; push it, or name another")
        pinned = Pinned(commit=tip, branch=base, config=await asyncio.to_thread(config_text, checkout))
        await journal.put("commit", pinned.model_dump_json())
        return await _check_out_branch(run, forge, folder, pinned)
    await journal.put("commit", Pinned(commit=checkout.commit).model_dump_json())
    return checkout


async def take_default_config(run: ClaimedRun, forge: Forge, checkout: Checkout) -> None:
    """Put the default branch's `.troop.toml` in the checkout."""
    default = await check_out(forge, run.repository, Path(checkout.workspace) / "default", whole=False)
    await _take(checkout, await asyncio.to_thread(config_text, default))


async def _asked_for(run: ClaimedRun, forge: Forge, runs: Runs) -> str:
    """The commit of the run that asked a question, or of the pull request; "" for the newest of a branch."""
    if run.again is not None and run.again.answer is not None:
        asked = await runs.report(run.again.of_run)
        return "" if asked is None else asked.base_commit
    if run.revision is not None:
        return (await forge.pull_state(run.repository, run.revision.pull)).head
    return ""


async def _base(run: ClaimedRun, checkout: Checkout, settings: Settings) -> str:
    """The branch to work on instead of the default one, which is checked out; "" for none."""
    if run.again is not None and run.again.base:
        return run.again.base
    config, _ = await asyncio.to_thread(read_config, checkout, settings)
    return config.base


async def _check_out_branch(run: ClaimedRun, forge: Forge, folder: Path, pinned: Pinned) -> Checkout:
    checkout = await check_out(forge, run.repository, folder, pinned.commit)
    await _take(checkout, pinned.config)
    return checkout.model_copy(update={"branch": pinned.branch, "apart": pinned.branch})


async def _take(checkout: Checkout, config: str | None) -> None:
    await asyncio.to_thread(take_config, Path(checkout.root), [FileChange(path=FILE_NAME, text=config)])
