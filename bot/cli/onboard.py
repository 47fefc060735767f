"""`troop onboard PATH`: a `.troop.toml` for a checkout, made by looking at it and trying what was found."""

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from bot.cli.solve import SolveOptions, settings_of
from bot.errors import TroopError
from bot.forge.local import LocalCheckout
from bot.git.build_artifacts import copy_built
from bot.git.checkout import check_out
from bot.publish.messages.onboarding import config_text, how_tests_went
from bot.repo_config import FILE_NAME
from bot.scratch import ScratchFolder
from bot.solver.onboarding import propose
from bot.solver.workbench import Audience


async def onboard_checkout(
    path: Path,
    *,
    write: bool,
    print_line: Callable[[str], None],
    sandbox: Literal["auto", "docker", "process"] | None,
    image: str | None,
) -> int:
    """Print, or write, the config; 1 where the image could not be built. Raises `TroopError`.

    `sandbox`, `image`: as of `troop solve`, before what the environment says.
    """

    def say(words: str) -> None:
        click.echo(words, err=True)

    target = path / FILE_NAME
    if write and target.exists():
        raise TroopError(f"{target} is there already: change it, or remove it first")
    settings = settings_of(SolveOptions(path=path, issue_text="", sandbox=sandbox, image=image))
    scratch = ScratchFolder()
    try:
        checkout = await check_out(LocalCheckout(path, say), "", scratch.path / "checkout")
        place, root = await asyncio.to_thread(path.resolve), Path(checkout.root)
        await copy_built(place, root)
        proposal = await propose(checkout, settings, venv_of=place, audience=Audience(notice=say, tell=say))
    finally:
        scratch.close()
    say(f"found: {proposal.found or 'nothing that says what is to be installed'}")
    for note in proposal.notes:
        say(note)
    command = shlex.join(proposal.tests.command or proposal.tests.tried)
    say(f"its own tests: {command} {how_tests_went(proposal.tests)}" if command else how_tests_went(proposal.tests))
    if proposal.tests.not_compared and proposal.tests.detail:
        say(f"what it printed: {proposal.tests.detail}")
    if proposal.failure:
        say(f"the image could not be built: {proposal.failure}\n{proposal.log}".rstrip())
    if write:
        target.write_text(config_text(proposal), encoding="utf-8")
        say(f"{target} is written")
    else:
        print_line(config_text(proposal).rstrip("\n"))
    return 1 if proposal.failure else 0
