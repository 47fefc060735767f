"""The operator's settings: environment variables `TROOP_...`, a `.env` file, or files. None comes from a repository.

`models` has the fields, `sources` reads them, `files` reads secrets out of files, `github_addresses` keeps tokens at
the one GitHub that is configured, `endpoints` has those of models, `server` is what a server needs beyond, `spending`
has prices and caps. docs/settings.md lists every variable.
"""

from bot.settings.endpoints import ModelSettings
from bot.settings.models import SandboxSettings, Settings, SolverSettings
from bot.settings.server import checked, needs_setup
from bot.settings.sources import misspelt, read_settings, unknown_variables
from bot.settings.spending import Cap, SpendingSettings

__all__ = [
    "Cap",
    "ModelSettings",
    "SandboxSettings",
    "Settings",
    "SolverSettings",
    "SpendingSettings",
    "checked",
    "misspelt",
    "needs_setup",
    "read_settings",
    "unknown_variables",
]
