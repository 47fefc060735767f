"""What the tests share in which a whole run is killed, or restored, and goes on."""

import collections
from pathlib import Path
from typing import Any

from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from tests.github.fixtures import settings_for
from tests.github.server import GitHubServer
from tests.patience import PATIENCE
from tests.scripted_endpoint import ScriptedEndpoint


def settings_of(server: GitHubServer, folder: Path, endpoint: ScriptedEndpoint, **more: Any) -> Settings:
    """Of a worker with SQLite and the process sandbox, whose work is below `folder`. `more`: further settings."""
    return settings_for(
        server,
        database_url=f"sqlite:///{folder / 'troop.sqlite3'}",
        work_dir=folder / "work",
        main=ModelSettings(base_url=endpoint.base_url),
        solver=SolverSettings(trajectories=4, test_timeout=PATIENCE),
        sandbox=SandboxSettings(kind="process"),
        **more,
    )


def check_nothing_paid_twice(endpoint: ScriptedEndpoint) -> None:
    """No finished model call of the run was asked for again."""
    asked = collections.Counter(headers["x-troop-call"] for headers in endpoint.headers if "x-troop-call" in headers)
    assert set(asked.values()) == {1}
