"""`troop onboard PATH`: a `.troop.toml` for a checkout, made by looking at it and trying what was found."""

from collections.abc import Callable
from pathlib import Path

import click

from bot.errors import TroopError
from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.publish.messages.onboarding import config_text
from bot.repo_config import FILE_NAME
from bot.scratch import ScratchFolder
from bot.settings import read_settings
from bot.solver.onboarding import propose
from bot.solver.workbench import Audience


async def onboard_checkout(path: Path, *, write: bool, print_line: Callable[[str], None]) -> int:
    """Print, or write, the config; 1 where the image could not be built. Raises `TroopError`."""

    def say(words: str) -> None:
        click.echo(words, err=True)

    target = path / FILE_NAME
    if write and target.exists():
        raise TroopError(f"{target} is there already: change it, or remove it first")
    scratch = ScratchFolder()
    try:
        checkout = await check_out(LocalCheckout(path, say), "", scratch.path / "checkout")
        proposal = await propose(checkout, read_settings(), audience=Audience(notice=say, tell=say))
    finally:
        scratch.close()
    say(f"found: {proposal.found or 'nothing that says what is to be installed'}")
    for note in proposal.notes:
        say(note)
    if proposal.failure:
        say(f"the image could not be built: {proposal.failure}\n{proposal.log}".rstrip())
    if write:
        target.write_text(config_text(proposal), encoding="utf-8")
        say(f"{target} is written")
    else:
        print_line(config_text(proposal).rstrip("\n"))
    return 1 if proposal.failure else 0
