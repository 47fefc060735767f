"""`troop verify BUNDLE`: runs a published count again, and says what comes out otherwise."""

import asyncio
import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.cli.one_object import print_failure, print_object
from bot.cli.say import say
from bot.cli.signals import Ending
from bot.errors import BundleError, TroopError

if TYPE_CHECKING:
    from bot.solver.recount import Recount

SAME, DIFFERENT, UNVERIFIABLE = 0, 1, 2  # exit codes
_LISTED = 50  # differences that are printed; the JSON has all


@click.command()
@click.argument("bundle", type=click.Path(allow_dash=True))
@click.option("--repo", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".",
              help="A clone that has the commit that the bundle names.  [default: the current folder]")  # fmt: skip
@click.option("--sandbox", type=click.Choice(["auto", "docker", "process"]),
              help="Where tests run. A bundle holds code of its writer's: auto falls back to processes of this machine "
              "where there is no Docker, the default does not.  [default: docker]")  # fmt: skip
@click.option("--image", help="Docker image in which tests run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, progress on stderr.")
def verify(bundle: str, repo: Path, sandbox: str | None, image: str | None, as_json: bool) -> None:
    """Run the tests of a pull request's bundle on all its candidates again, and count again. `-` reads stdin.

    Needs no model and no GitHub; the pull request says how to get its bundle. Exit 0: the same in every cell, and the
    same winner; 1: something differs; 2: it can't be verified.
    """
    with Ending() as ending:
        try:
            found = asyncio.run(ending.run(_verify(bundle, repo, sandbox, image)))
        except (TroopError, asyncio.CancelledError) as error:
            said = str(error) or "interrupted"
            say(f"troop: {said}", err=True)
            if as_json:
                print_failure("verify", said)
            raise SystemExit(ending.code if ending.number else UNVERIFIABLE) from None
    for line in told(found):
        say(line, err=as_json)
    if as_json:
        print_object({"same": found.same, **found.model_dump()})
    raise SystemExit(SAME if found.same else DIFFERENT)


async def _verify(name: str, repo: Path, sandbox: str | None, image: str | None) -> "Recount":
    from bot.cli.progress import ConsoleProgress
    from bot.forge.local import LocalCommit
    from bot.git.build_artifacts import copy_built
    from bot.git.checkout import check_out
    from bot.publish.bundle import read
    from bot.scratch import ScratchFolder
    from bot.settings import read_settings
    from bot.solver.verification import verify as run_again
    from bot.solver.workbench import Audience

    bundle = read(await asyncio.to_thread(_bytes_of, name))
    settings = read_settings()
    given = {"kind": sandbox or ("docker" if settings.sandbox.kind == "auto" else settings.sandbox.kind)}
    given |= {} if image is None else {"image": image}
    settings = settings.model_copy(update={"sandbox": settings.sandbox.model_copy(update=given)})
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(ConsoleProgress())
        scratch = ScratchFolder()
        stack.callback(scratch.close)
        place = await asyncio.to_thread(repo.resolve)
        host = LocalCommit(place)
        checkout = await check_out(host, str(place), scratch.path / "checkout", bundle.parent)
        to_base = await host.changes_to(checkout, bundle.base_commit) if bundle.reviewed_commit else None
        await copy_built(place, Path(checkout.root))
        audience = Audience(notice=progress.say, tell=progress.say)
        return await run_again(bundle, checkout, to_base, settings, progress, audience, place)


def _bytes_of(name: str) -> bytes:
    """The file's bytes, no more than one beyond what a bundle may have."""
    from bot.publish.bundle import MAX_BYTES

    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        # Not to wait for the other end of a pipe.
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{name} is not a file")
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{name} can't be read: {error.strerror}") from error


def told(found: "Recount") -> list[str]:
    """The comparison in lines."""
    lines = [f"{one.what}: the bundle says {one.claimed}, here: {one.found}" for one in found.differences[:_LISTED]]
    if more := len(found.differences) - len(lines):
        lines.append(f"... and {more:,} more differences; --json has all")
    differ = sum(one.is_cell for one in found.differences)
    lines.append(f"{found.cells:,} cells were run again: {found.cells - differ:,} are the same, {differ:,} differ")
    claimed, now = (_name(number) for number in (found.claimed, found.found))
    if found.same_winner:
        by = f", chosen in the bundle by: {found.rule}" if found.rule else ""
        lines.append(f"winner: {now}, as in the bundle{by}")
    else:
        lines.append(f"winner: {now}; the bundle says {claimed}")
    lines.append("the same" if found.same else "NOT the same")
    return lines


def _name(number: int | None) -> str:
    return "none" if number is None else f"candidate {number}"
