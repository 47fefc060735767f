"""What stages run tests with."""

from dataclasses import dataclass

from bot.contracts import Progress, Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.records import Execution, SandboxJob
from bot.settings import SolverSettings


@dataclass(frozen=True)
class Harness:
    """Where tests run, within which limits, and who hears how far they are."""

    sandbox: Sandbox
    settings: SolverSettings
    progress: Progress


async def attempt(sandbox: Sandbox, job: SandboxJob) -> Execution | SandboxError:
    """The job's run, or why the sandbox failed at it. Raises `SandboxUnavailable`: then it fails at any other, too."""
    try:
        return await sandbox.run(job)
    except SandboxUnavailable:
        raise
    except SandboxError as error:
        return error
