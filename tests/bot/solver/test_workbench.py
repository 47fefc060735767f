"""What a repository may set of a run's settings."""

import pytest

from bot.repo_config import RepoConfig, parse
from bot.settings import SolverSettings
from bot.solver.workbench import SURE, solver_settings


@pytest.mark.parametrize(
    ("asked", "server", "trajectories", "stop_at"),
    [
        ("5", 1.0, 5, 1.0),
        ("5", 0.7, 5, 0.7),
        ("'auto'", 1.0, 64, SURE),
        ("'auto'", 0.7, 64, 0.7),
        ("'auto'", 0.9, 64, SURE),
    ],
)
def test_how_many_trajectories(asked: str, server: float, trajectories: int, stop_at: float) -> None:
    config = parse(f"[run]\ntrajectories = {asked}")
    assert isinstance(config, RepoConfig)
    found = solver_settings(SolverSettings(trajectories=64, stop_at=server), config)
    assert (found.trajectories, found.stop_at) == (trajectories, stop_at)
