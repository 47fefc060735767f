"""`troop eval plant`: a package with planted bugs, as tasks in SWE-bench's form."""

import asyncio
import contextlib
from pathlib import Path

import click

from bot.errors import EvaluationError
from bot.evaluation.planting.bugs import plant
from bot.evaluation.planting.packages import fetch, pinned_of, split, write_tree
from bot.evaluation.planting.tasks import write_tasks
from bot.publish.messages.words import counted
from bot.sandbox import open_sandbox
from bot.scratch import ScratchFolder
from bot.settings import read_settings


async def plant_package(requirement: str, out: Path, number: int, per_file: int, seed: int) -> int:
    """Write `tasks.jsonl` and the repository below `out`; the exit status: 0, or 3 where fewer bugs could be planted.

    Raises `EvaluationError` and `SandboxError`.
    """
    if "==" not in requirement:
        raise EvaluationError(f"{requirement}: give its version, too, as in toolz==1.1.0: then the bugs stay the same")
    await asyncio.to_thread(_make_empty, out)
    with contextlib.closing(ScratchFolder()) as scratch:
        texts = await asyncio.to_thread(fetch, requirement, scratch.path / "download")
        package = split(pinned_of(requirement, texts), texts)
        _say(f"{requirement}: {len(package.files):,} files, {len(package.tests):,} of tests, which no model sees")
        tree = scratch.path / "tree"
        await asyncio.to_thread(write_tree, package.files, tree)
        sandbox = await open_sandbox(read_settings().sandbox, tree, notice=_say)
        try:
            bugs = await plant(package, sandbox, number, per_file, seed)
        finally:
            await sandbox.close()
    if not bugs:
        raise EvaluationError(f"{requirement} has no function whose doctests tell a planted bug")
    lines = await asyncio.to_thread(write_tasks, package, bugs, out / package.name)
    (out / "tasks.jsonl").write_text("".join(f"{line}\n" for line in lines))
    command = f"troop eval run {out / 'tasks.jsonl'} --checkouts {out} --samples 16 --out RESULTS"
    click.echo(f"{counted(len(bugs), 'bug')}: {command}")
    return 0 if len(bugs) == number else 3


def _make_empty(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise EvaluationError(f"{out} is not empty: tasks and repository would not fit what is there")


def _say(words: str) -> None:
    click.echo(words, err=True)
