"""Attacks 5, 6, 9, 36, 42 and 44 in orders that nobody thought of: random walks, each again by its seed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.store import Store
from tests.attacks.changing import Scene, set_up
from tests.attacks.moving import Moving
from tests.attacks.walk import Walk
from tests.github import GitHubServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def scene(
    github: GitHubServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    store.quota_runs_per_hour = 10_000
    scene = set_up(github, store, tmp_path, monkeypatch)
    yield scene
    await scene.worker.close()


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_whatever_happens_in_whatever_order_nothing_is_doubled_or_stuck(scene: Scene, seed: int) -> None:
    await Walk(scene, seed).take(40)


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_attack_42_whatever_becomes_of_repositories_nothing_is_told_where_nobody_asked(
    scene: Scene, seed: int
) -> None:
    await Moving(scene, seed).take(40)
