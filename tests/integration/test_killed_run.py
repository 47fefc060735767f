"""A run killed at every stage boundary and after every act on GitHub: one pull request, nothing paid for twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bot.forge.markers import ALTERNATIVES, STATUS
from bot.lifecycle import RunState
from bot.store import Store
from tests.github.fixtures import dumped, github, github_server
from tests.github.server import GitHubServer
from tests.integration.killed import check_nothing_paid_twice, settings_of
from tests.integration.killed_run import POINTS
from tests.integration.scenario import REPOSITORY, plant, script, start_run
from tests.lean_python import lean_path
from tests.patience import PATIENCE
from tests.scripted_endpoint import scripted_endpoint

__all__ = ["github", "github_server", "lean_path"]

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_at_every_boundary(github: GitHubServer, tmp_path: Path) -> None:
    number = plant(github)
    github.label(REPOSITORY, number)
    with scripted_endpoint(script) as endpoint:
        settings = settings_of(github, tmp_path, endpoint, max_crashes=1000)
        store = Store.from_settings(settings)
        store.accept("guid", "issues", "labeled", start_run(github, number))
        argv = [sys.executable, "-m", "tests.integration.killed_run", str(tmp_path)]
        limit = (len(POINTS) + 1) * PATIENCE
        child = subprocess.run(
            argv, cwd=ROOT, input=dumped(settings), capture_output=True, text=True, timeout=limit, check=False
        )
        assert child.returncode == 0, child.stderr
        error = tmp_path / "error"
        assert not error.exists(), error.read_text()
        ends = json.loads(child.stdout)
        assert ends == dict.fromkeys(POINTS, -9) | {"end": 0}
    run = store.run(1)
    store.close()
    assert run is not None
    assert run.state is RunState.SOLVED
    check_nothing_paid_twice(endpoint)
    pulls = github.pull_requests(REPOSITORY)
    assert [pull["html_url"] for pull in pulls] == [run.pull_request_url]
    assert pulls[0]["draft"]
    assert "+        return high" in pulls[0]["diff"]
    assert len([branch for branch in github.branches(REPOSITORY) if branch.startswith("troop/")]) == 1
    comments = github.comments(REPOSITORY, number) + github.comments(REPOSITORY, pulls[0]["number"])
    assert sum(STATUS in body for body in comments) == 1
    assert sum(ALTERNATIVES in body for body in comments) == 1
    assert github.issue(REPOSITORY, number)["labels"] == ["troop: done"]
    assert list((tmp_path / "work").iterdir()) == []
