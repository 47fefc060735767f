"""What a server needs, looked at by `troop doctor`, at start and at `/ready`, all with the same checks.

Nothing here changes anything. Each check returns findings and never raises: what is wrong is a value with its remedy.
"""

from bot.preflight.finding import Finding, Level
from bot.preflight.readiness import Check, Readiness, checks, examine, start_refused
from bot.preflight.sandbox import prepare_sandbox

__all__ = ["Check", "Finding", "Level", "Readiness", "checks", "examine", "prepare_sandbox", "start_refused"]
