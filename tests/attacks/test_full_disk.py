"""A disk that is full, takes no more files, or becomes read-only, under the running service."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bot.git.checkout import check_out
from bot.lifecycle import RunState
from bot.preflight.machine import machine
from bot.records import Reply
from bot.settings import Settings
from bot.store import Store, run_job
from bot.web import app as app_module
from bot.worker import worker as worker_module
from bot.worker.worker import is_infrastructure, reason
from tests.bot.queueing import expire, queue_run
from tests.bot.web.conftest import ListDispatcher, Sender
from tests.bot.webhook.deliveries import SECRET
from tests.bot.worker.working import Fake, info, solve, worker_of
from tests.github.fixtures import forge_for, settings_for
from tests.github.server import GitHubServer
from tests.small_disk import MEGABYTE, SmallDisk, disk

__all__ = ["disk"]

pytestmark = pytest.mark.service  # who may not mount a file system skips these

TOKEN = "the token of the machine's owner"
FULL = {"fill": "is full: free some of it", "take_files": "takes no more files: remove some"}


@asynccontextmanager
async def serving(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(app_module, "METRICS_SECONDS", 0.0)  # each `/ready` looks
    settings = Settings(_env_file=None, webhook_secret=SECRET, app_id=12345, admin_token=TOKEN)
    transport = httpx.ASGITransport(app_module.create_app(settings, store, ListDispatcher()))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers) as client:
        yield client


def opened(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'troop.sqlite3'}", quota_runs_per_hour=1000)


@pytest.mark.parametrize("how", list(FULL))
async def test_a_delivery_is_refused_or_stored_whatever_the_disk_lacks(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
):
    """What is refused is delivered again; SQLite needs no new file, so that only a full disk refuses."""
    store = opened(disk.root)
    async with serving(store, monkeypatch) as client:
        send = Sender(client)
        assert (await send("issues.labeled", guid="before", issue__number=1)).status_code == 202
        getattr(disk, how)()
        answers = [await send("issues.labeled", guid=f"guid-{n}", issue__number=n) for n in range(2, 5)]
        assert {one.status_code for one in answers} == {503 if how == "fill" else 202}
        ready = await client.get("/ready")
        assert (ready.status_code, FULL[how] in ready.json()["database"]) == (503, True)
        assert f"not ready: the database can't be written: the disk of {disk.root} {FULL[how]}" in caplog.text
        assert how != "fill" or "not stored guid=guid-2 error=the database can't be used now" in caplog.text
        assert len(store.runs()) == (1 if how == "fill" else 4)  # reading goes on
        disk.free()
        for n in range(2, 5):
            assert (await send("issues.labeled", guid=f"guid-{n}", issue__number=n)).status_code == 202
        assert (await client.get("/ready")).status_code == 200
    assert sorted(run.issue_number for run in store.runs()) == [1, 2, 3, 4]
    store.close()


async def test_a_disk_that_the_kernel_made_read_only_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """After an error, which no call for the state of the file system tells of."""
    with Ext4(tmp_path) as ext4:
        store = opened(ext4.folder)
        async with serving(store, monkeypatch) as client:
            send = Sender(client)
            assert (await send("issues.labeled", issue__number=1)).status_code == 202
            ext4.break_down()
            assert (await send("issues.labeled", issue__number=2)).status_code == 503
            ready = await client.get("/ready")
            words = f"nothing can be written to the disk of {ext4.folder} (Read-only file system)"
            assert (ready.status_code, words in ready.json()["database"]) == (503, True)
        store.close()
        assert caplog.text.count(words) == 2
        assert "damaged" not in caplog.text  # nothing of it is
        ext4.repair()
        store = opened(ext4.folder)
        assert [run.issue_number for run in store.runs()] == [1]
        store.close()


class Ext4:
    """A file system that the kernel can be told to have found an error in."""

    def __init__(self, at: Path) -> None:
        self.folder = at / "mounted"
        self._image = at / "image"

    def __enter__(self) -> "Ext4":
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(8 * MEGABYTE)
        made = subprocess.run(["mkfs.ext4", "-q", str(self._image)], capture_output=True, check=False)
        if made.returncode or not self._mount():
            pytest.skip("no file system of ext4 can be made and mounted here")
        return self

    def _mount(self) -> bool:
        argv = ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder)]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def break_down(self) -> None:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        [device] = [device for device, folder, *_ in mounts if folder == str(self.folder)]
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")

    def repair(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        subprocess.run(["fsck.ext4", "-fy", str(self._image)], capture_output=True, check=False)
        assert self._mount()

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.mark.parametrize("how", list(FULL))
async def test_a_run_waits_where_its_checkout_has_no_room(github: GitHubServer, disk: SmallDisk, how: str):
    files = {f"src/{number}.txt": f"{number}\n" * 9000 for number in range(20)}
    github.create_repository("octo/roomy", files)
    forge = forge_for(github, "octo/roomy")
    getattr(disk, how)()
    with pytest.raises(OSError) as caught:
        await check_out(forge, "octo/roomy", disk.root / "work")
    assert is_infrastructure(caught.value)
    assert reason(caught.value) == "the server has run out of disk space; its log has the details"
    _, found = await machine(settings_for(github, work_dir=disk.root / "work"), works=True)
    assert (found.name, found.level) == ("work folder", "missing")
    assert FULL[how] in found.detail
    disk.free()
    assert len((await check_out(forge, "octo/roomy", disk.root / "work")).files) == 20


async def test_a_run_goes_on_once_its_database_has_room_again(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """From its journal; and that the disk was full is no crash of the worker's, however often."""
    monkeypatch.setattr(worker_module, "PERSIST", (0.0,))
    store, fake, paid = opened(disk.root), Fake(), 0
    run_id = queue_run(store)

    async def fills_it(run, journal, progress, advance):
        nonlocal paid
        if await journal.get("reply") is None:
            paid += 1
            await journal.put("reply", Reply(text="x").model_dump_json())
        if run.attempt <= 5:
            disk.fill()
            await journal.put(f"more/{run.attempt}", Reply(text="x" * MEGABYTE).model_dump_json())
        return await solve(run, journal, progress, advance)

    fake.run = fills_it
    worker = worker_of(store, fake, name="one")
    for attempt in range(6):
        await worker.handle(run_job(run_id, attempt))
        if attempt < 5:
            assert f"run:{run_id}:{attempt} is left to the sweeper" in caplog.text
            disk.free()
            expire(store, run_id)
    found = info(store, run_id)
    assert (found.state, found.attempt, found.crashes, paid) == (RunState.SOLVED, 6, 0, 1)
    store.close()
