"""Looks at a repository as a run does, builds the image for its tests, and runs them: what a config could say."""

from pathlib import Path

from bot.errors import BuildFailed
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.onboarding import Proposal
from bot.records import Checkout, OwnTestsReport
from bot.repo_config import RepoConfig
from bot.sandbox import open_sandbox
from bot.sandbox.build import Plan
from bot.settings import Settings
from bot.solver.project import build_recipe, declared_by, own_test_commands
from bot.solver.stages.own_tests import on_base
from bot.solver.stages.survey import obstacles, survey
from bot.solver.stages.watched import Watched
from bot.solver.workbench import NOBODY, Audience


async def propose(
    checkout: Checkout,
    settings: Settings,
    *,
    server: bool = False,
    venv_of: Path | None = None,
    audience: Audience = NOBODY,
) -> Proposal:
    """What was found, built and run. A build that fails for the repository's own reasons is part of it.

    `server`, `venv_of`: as of `open_sandbox`. Raises `SandboxError` where there is no sandbox, or it fails for now.
    """
    config = RepoConfig()
    recipe = build_recipe(checkout, config, settings)
    notes: list[str] = []
    proposal = Proposal(
        found=recipe.found,
        image=recipe.image or settings.sandbox.image,
        commands=tuple(line for layer in recipe.layers for command in layer.commands for line in command.splitlines()),
        setup=recipe.setup,
    )
    plan = Plan(recipe, f"{settings.github_url} {checkout.repository}", audience.tell)
    commands = own_test_commands(checkout, config, recipe)
    try:
        sandbox = await open_sandbox(
            settings.sandbox,
            Path(checkout.root),
            config=config,
            plan=plan,
            server=server,
            venv_of=venv_of,
            notice=notes.append,
        )
    except BuildFailed as failure:
        why = {"failure": str(failure), "log": failure.log, "mend": failure.setup}
        tests = OwnTestsReport(tried=commands[0] if commands else (), note="the image could not be built")
        return proposal.model_copy(update={**why, "tests": tests, "notes": (*recipe.notes, *checkout.left_out)})
    watched, limit = Watched(sandbox), settings.solver.own_tests_timeout
    try:
        there = await survey(checkout.files, declared_by(checkout), sandbox, recipe.asked)
        notes += map(words_of, obstacles(there, recipe.asked))
        work = on_base(commands, watched, settings.solver)
        tests = await watched.until(work, limit, lambda said: audience.tell(f"the repository's own tests run{said}"))
    finally:
        await sandbox.close()
    found = (*recipe.notes, *notes, *checkout.left_out)
    return proposal.model_copy(update={"built": bool(recipe.layers), "tests": tests, "notes": found})
