"""The restore drill: a backup of a run between two stages, restored elsewhere, ends in the one pull request."""

import asyncio
from pathlib import Path

import pytest

from bot.contracts import Journal, Progress
from bot.lifecycle import RunState
from bot.records import ClaimedRun
from bot.settings import Settings
from bot.store import Store, parse
from bot.store.backup import back_up, restore
from bot.store.database import Database
from bot.worker.callbacks import Advance, Callbacks, Finished
from bot.worker.executor import Service
from bot.worker.worker import Worker
from tests.bot.conftest import _postgres_socket, postgres_url
from tests.github.fixtures import github, github_server
from tests.github.server import GitHubServer
from tests.integration.killed import check_nothing_paid_twice, settings_of
from tests.integration.scenario import REPOSITORY, plant, script, start_run
from tests.lean_python import lean_path
from tests.patience import PATIENCE
from tests.scripted_endpoint import scripted_endpoint

__all__ = ["_postgres_socket", "github", "github_server", "lean_path", "postgres_url"]


async def halfway(settings: Settings, store: Store, run_id: int, file: Path) -> None:
    """Execute the run until its trajectories are done; back it up there, and work no more."""
    service = Service(settings, store, local=True)
    there = asyncio.Event()

    async def execute(run: ClaimedRun, journal: Journal, progress: Progress, advance: Advance) -> Finished:
        async def stopping(state: RunState) -> None:
            if state is RunState.MATRIX:
                there.set()
                await asyncio.Event().wait()
            await advance(state)

        return await service.execute(run, journal, progress, stopping)

    worker = Worker(store, Callbacks(execute, service.execute_command, service.announce), lease_seconds=2 * PATIENCE)
    working = asyncio.create_task(worker.handle(f"run:{run_id}:0"))
    async with asyncio.timeout(PATIENCE):
        await there.wait()
    await asyncio.to_thread(back_up, store.database, file)
    worker.shutdown()
    await working


@pytest.mark.slow
@pytest.mark.service
async def test_a_restored_run_goes_on_where_it_was(github: GitHubServer, tmp_path: Path, postgres_url: str) -> None:
    number = plant(github)
    github.label(REPOSITORY, number)
    with scripted_endpoint(script) as endpoint:
        settings = settings_of(github, tmp_path, endpoint)
        store = Store.from_settings(settings)
        accepted = store.accept("guid", "issues", "labeled", start_run(github, number))
        assert accepted.job_id is not None
        await halfway(settings, store, parse(accepted.job_id).id, tmp_path / "troop.backup")
        store.close()

        database = Database(postgres_url)
        with (tmp_path / "troop.backup").open("rb") as stream:
            restore(database, stream, force=True)
        database.close()
        moved = settings.model_copy(update={"database_url": postgres_url})
        store = Store.from_settings(moved)
        service = Service(moved, store, local=True)
        worker = Worker(
            store,
            Callbacks(service.execute, service.execute_command, service.announce),
            lease_seconds=2 * PATIENCE,
        )
        [job] = store.due()
        await worker.handle(job)
    [run] = store.runs()
    store.close()
    assert (run.state, run.crashes) == (RunState.SOLVED, 0)
    check_nothing_paid_twice(endpoint)
    assert [pull["html_url"] for pull in github.pull_requests(REPOSITORY)] == [run.pull_request_url]
    assert github.issue(REPOSITORY, number)["labels"] == ["troop: done"]
