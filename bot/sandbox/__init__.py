"""Sandboxes: where model-written tests meet model-written patches.

Others use `open_sandbox` alone; `bot.patch.protected_files` decides which candidates lose their votes.
"""

from collections.abc import Callable
from pathlib import Path

from bot.errors import SandboxUnavailable
from bot.repo_config import RepoConfig
from bot.sandbox.build import NOTHING, Plan
from bot.sandbox.pool import DockerSandbox
from bot.sandbox.process import Isolation, ProcessSandbox
from bot.settings import SandboxSettings

NO_CONFIG = RepoConfig()
_EARLY = (
    "the tests' Python is older than 3.8: a script's end is proved there and nothing else, so that a candidate may "
    "change what its tests judge by; results of pytest and unittest are what they print"
)
_REFUSE = "to refuse it, use the Docker sandbox: --sandbox docker or TROOP_SANDBOX_KIND=docker"


async def open_sandbox(
    settings: SandboxSettings,
    tree: Path,
    *,
    config: RepoConfig = NO_CONFIG,
    plan: Plan = NOTHING,
    server: bool = False,
    venv_of: Path | None = None,
    notice: Callable[[str], None],
) -> DockerSandbox | ProcessSandbox:
    """A sandbox with a copy of `tree`, which may be changed or removed afterwards. `close` it in the end.

    `config`: the repository's, for its `scripts`. `plan`: how its image is built (Docker only).
    `server`: strangers' issues are worked on, so the process sandbox is refused. `venv_of`: the person's own checkout,
    whose `.venv/bin` comes first on the process sandbox's PATH (default: `tree`, which may be a clone without it).
    `notice` gets what the operator should know.

    Raises `SandboxUnavailable` where there is no such sandbox here, `SandboxError` where it fails, and `BuildFailed`
    where what the repository needs can't be installed.
    """
    if server and settings.kind == "process":
        raise SandboxUnavailable(
            "a server must not use the process sandbox, since strangers can make it run code: install Docker and set "
            "TROOP_SANDBOX_KIND=docker"
        )
    if settings.kind != "process":
        try:
            docker = await DockerSandbox.open(settings, tree, scripts=config.scripts, plan=plan)
            for note in (*docker.notes, *([_EARLY] if docker.early else [])):
                notice(note)
            return docker
        except SandboxUnavailable as missing:
            if server or settings.kind == "docker":
                raise
            notice(f"no Docker sandbox: {missing}")
    process = await ProcessSandbox.open(settings, tree, scripts=config.scripts, recipe=plan.recipe, venv_of=venv_of)
    if config.setup:
        notice("the repository's `setup` command is not run without Docker; install its dependencies yourself")
    if plan.recipe.prepare and not plan.recipe.prepare_optional:
        notice("the repository's `prepare` command is not run without Docker; put it before its tests' command")
    for note in (describe(process), *process.notes):
        notice(note)
    if process.early:
        notice(_EARLY)
    return process


def describe(process: ProcessSandbox) -> str:
    """What this process sandbox protects against, and what not, for the operator."""
    if process.isolation is Isolation.PLAIN:
        return (
            "tests run as ordinary processes: model-written code can read and write your files and use the network "
            f"(only time, memory and output are limited); {_REFUSE}"
        )
    forks = "" if process.limits_processes else ", and no limit on the number of processes"
    return (
        "tests run as processes in Linux namespaces: no network, nothing writable but a copy of the repository, your "
        f"home folder hidden; but they share this machine's kernel and can read its other files{forks}; {_REFUSE}"
    )
