"""What a repository may set of a run's settings."""

import pytest

from bot.records import StopRule
from bot.repo_config import RepoConfig, parse
from bot.settings import SolverSettings
from bot.solver.stopping import ALL, SURE, Stopping, stopping
from bot.solver.workbench import solver_settings


@pytest.mark.parametrize(
    ("asked", "server", "trajectories", "rule"),
    [
        ("trajectories = 5", {}, 5, ALL),
        ("trajectories = 5", {"stop_at": 0.7}, 5, Stopping(StopRule.POSTERIOR, 0.7)),
        ("trajectories = 'auto'", {}, 64, Stopping(StopRule.POSTERIOR, SURE)),
        ("trajectories = 'auto'", {"stop": "none"}, 64, Stopping(StopRule.POSTERIOR, SURE)),
        ("trajectories = 'auto'", {"stop_at": 0.7}, 64, Stopping(StopRule.POSTERIOR, 0.7)),
        ("trajectories = 'auto'", {"stop_at": 0.9}, 64, Stopping(StopRule.POSTERIOR, SURE)),
        ("trajectories = 'auto'", {"stop": "first-finish"}, 64, Stopping(StopRule.FIRST_FINISH)),
        ("trajectories = 'auto'\nstop = 'consensus'", {"stop_alike": 4}, 64, Stopping(StopRule.CONSENSUS, 4)),
        ("stop = 'short-m'", {}, 64, Stopping(StopRule.SHORT_M, 8)),
        ("stop = 'posterior'", {"stop": "consensus"}, 64, Stopping(StopRule.POSTERIOR, SURE)),
    ],
)
def test_how_many_trajectories(asked: str, server: dict[str, object], trajectories: int, rule: Stopping) -> None:
    config = parse(f"[run]\n{asked}")
    assert isinstance(config, RepoConfig)
    found = solver_settings(SolverSettings.model_validate({"trajectories": 64, **server}), config)
    assert (found.trajectories, stopping(found)) == (trajectories, rule)
