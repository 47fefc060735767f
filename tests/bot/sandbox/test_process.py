"""The process sandbox, in the strongest isolation that this machine has and as a plain process."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.errors import SandboxError, SandboxUnavailable
from bot.records import Ending, SandboxJob, Test
from bot.repo_config import RepoConfig
from bot.sandbox import describe, inside, open_sandbox
from bot.sandbox.process import Isolation, ProcessSandbox
from bot.sandbox.pythons import find_python
from bot.settings import SandboxSettings
from tests.bot.sandbox.behaviour import LONG, Attacks, Work, command, make_tree, python, running
from tests.patience import PATIENCE, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

SETTINGS = SandboxSettings(kind="process", concurrency=4, memory="512m", pids=128)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strongest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path_factory.mktemp("tree")))
    yield opened
    await opened.close()


class Bounded(Attacks):
    """Attacks on what may have no bound of its own."""

    async def test_attack_22_a_fork_bomb_leaves_neighbours_alone(self, sandbox: ProcessSandbox) -> None:
        if not sandbox.limits_processes:
            pytest.skip("only a control group could hold it, and none may be made here")
        await super().test_attack_22_a_fork_bomb_leaves_neighbours_alone(sandbox)


class TestNamespaces(Work, Bounded):
    @pytest_asyncio.fixture(loop_scope="module")
    async def sandbox(self, strongest: ProcessSandbox) -> ProcessSandbox:
        if strongest.isolation is Isolation.PLAIN:
            pytest.skip("this kernel gives us no namespaces")
        return strongest

    async def test_the_home_folder_is_hidden_and_nothing_else_can_be_written(self, sandbox: ProcessSandbox) -> None:
        body = (
            "import os, pathlib, pwd\n"
            "home = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir)\n"
            "print(sorted(str(path) for path in home.iterdir()))\n"
            "for path in ('/usr/x', '/var/tmp/x', '/etc/x', str(home / 'x')):\n"
            "    try: open(path, 'w')\n"
            "    except OSError as error: print(error.errno)\n"
        )
        result = await sandbox.run(python(body))
        assert result.passed, result
        assert ".ssh" not in result.output
        assert result.output.split()[-3:] == ["30", "30", "30"]  # EROFS; the empty home is the job's own

    async def test_what_judges_scripts_is_compiled(self, sandbox: ProcessSandbox) -> None:
        if sandbox._python.magic != inside.MAGIC:
            pytest.skip("the Python of jobs is of another version")
        body = (
            "import glob\n"
            "from importlib.machinery import SourcelessFileLoader as Loader\n"
            "places = glob.glob('/tmp/troop/test/.*.py')\n"
            "print([Loader('', f'{place}c').get_code('').co_filename for place in places] == places, len(places))\n"
        )
        result = await sandbox.run(python(body))
        assert result.output.split() == ["True", str(sum(name.endswith(".py") for name in inside.FILES))], result

    async def test_a_job_has_no_privileges(self, sandbox: ProcessSandbox) -> None:
        result = await sandbox.run(command("cat", "/proc/self/status"))
        assert "CapEff:\t0000000000000000" in result.output
        assert "CapBnd:\t0000000000000000" in result.output
        assert "NoNewPrivs:\t1" in result.output
        assert not (await sandbox.run(command("mount", "-o", "remount,rw", "/"))).passed
        assert not (await sandbox.run(command("sh", "-c", "head -c 1 /dev/vda || head -c 1 /dev/sda"))).passed

    async def test_a_real_copy_serves_where_there_are_no_overlays(self, sandbox: ProcessSandbox) -> None:
        before, sandbox.isolation = sandbox.isolation, Isolation.COPY
        try:
            await self.test_fresh_copies_do_not_see_each_others_writes(sandbox)
            await self.test_files_are_created_deleted_and_made_executable(sandbox)
        finally:
            sandbox.isolation = before


class TestPlain(Bounded):
    """What holds without namespaces."""

    script_may_be_written = True

    @pytest_asyncio.fixture(loop_scope="module")
    async def sandbox(self, strongest: ProcessSandbox, monkeypatch: pytest.MonkeyPatch) -> ProcessSandbox:
        monkeypatch.setattr(strongest, "isolation", Isolation.PLAIN)
        return strongest

    # A plain process sees what its user sees, shares /dev/shm and the disk, and forks as its user may; root reads all.
    test_attack_31_a_program_that_a_candidate_starts_reaches_no_memory_of_its_judge = None  # type: ignore[assignment]
    test_attack_21_secrets_network_and_sockets_are_out_of_reach = None  # type: ignore[assignment]
    test_attack_31_no_other_process_of_a_job_holds_a_secret = None  # type: ignore[assignment]
    test_attack_23_a_full_disk_is_the_jobs_own = None  # type: ignore[assignment]

    async def test_copies_are_fresh(self, sandbox: ProcessSandbox) -> None:
        write = "import pathlib\np = pathlib.Path('pkg/core.py')\nassert 'def' in p.read_text()\np.write_text('')\n"
        assert all(result.passed for result in await asyncio.gather(*(sandbox.run(python(write)) for _ in range(6))))


@pytest.mark.parametrize("cloned", [False, True])
async def test_a_venv_of_the_checkout_comes_first(tmp_path: Path, cloned: bool) -> None:
    source = make_tree(tmp_path / "tree")
    clone = make_tree(tmp_path / "clone") if cloned else source
    (source / ".venv/bin").mkdir(parents=True)
    (source / ".venv/bin/tool").write_text("#!/bin/sh\necho from the venv\n")
    (source / ".venv/bin/tool").chmod(0o755)
    (source / ".venv/pyvenv.cfg").write_text("")
    opened = await ProcessSandbox.open(SETTINGS, clone, venv_of=source)
    try:
        assert (await opened.run(command("tool"))).output == "from the venv\n"
        assert (await opened.run(command("ls", "-A"))).output.split() == sorted(
            ["binary.bin", "folder", "inside", "latin.txt", "pkg", "run.sh", "src", "tests"]
        )
    finally:
        await opened.close()
    await opened.close()  # twice is safe


@pytest.mark.parametrize("name", ["venv", "env", ".env", "virtualenv"])
async def test_a_virtual_environment_of_another_name_is_known_by_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "bin").mkdir(parents=True)
    assert not find_python(tmp_path)[1].startswith(str(tmp_path)), "a folder of that name may be anything"
    (tmp_path / name / "pyvenv.cfg").write_text("")
    assert find_python(tmp_path)[1].startswith(f"{tmp_path}/{name}/bin:")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    assert find_python(tmp_path)[1].startswith(f"{tmp_path}/.venv/bin:")


async def test_a_folder_of_a_repository_has_the_repositorys_venv_and_no_strangers(tmp_path: Path) -> None:
    for folder in (".venv/bin", "repository/.git", "repository/packages/a"):
        (tmp_path / folder).mkdir(parents=True)
    inner = tmp_path / "repository/packages/a"
    assert not find_python(inner)[1].startswith(str(tmp_path))
    (tmp_path / "repository/.venv/bin").mkdir(parents=True)
    assert find_python(inner)[1].startswith(f"{tmp_path}/repository/.venv/bin:")
    (inner / ".venv/bin").mkdir(parents=True)
    assert find_python(inner)[1].startswith(f"{inner}/.venv/bin:")


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", '#!/bin/sh\necho \'[[3, 4], "", "x", "y", "z"]\'\n'])
async def test_a_python_that_is_broken_or_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(text)
    (tmp_path / "bin/python3").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path / "tree"))
    try:
        result = await opened.run(python("import sys; assert sys.version_info >= (3, 8); print('fine')"))
        assert result.output == "fine\n"
        result = await opened.run(command("sh", "-c", "python3 -c 'print(1)'"))
        assert result.output == "1\n"
    finally:
        await opened.close()


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path / "tree"))
    opened.isolation = Isolation.PLAIN
    hard = "import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0); os.chmod('a', 0)"
    assert (await opened.run(python(hard))).passed
    await opened.close()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not any(folder.exists() for group in opened._groups for folder in group.folders)


async def test_scripts_of_the_repository_say_how_an_ending_is_run(tmp_path: Path) -> None:
    opened = await ProcessSandbox.open(
        SETTINGS, make_tree(tmp_path / "tree"), scripts={".txt": ("cat", "{script}"), ".py": ("head", "-c", "4")}
    )
    try:
        assert (await opened.run(SandboxJob(test=Test(path="a.txt", text="words")))).output == "words"
        assert (await opened.run(SandboxJob(test=Test(path="a.py", text="words")))).output == "word"
    finally:
        await opened.close()


@pytest.mark.skipif(shutil.which("npx") is None, reason="there is no npx")
async def test_a_program_that_npx_lacks_is_missed_at_once(tmp_path: Path) -> None:
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path / "tree"))
    try:
        found = await opened.run(SandboxJob(command=("npx", "--no-install", "no-such-program")))
    finally:
        await opened.close()
    assert "ENOTCACHED" in found.output, "not that a registry can't be found, for which it waits 70 seconds"


async def test_the_server_refuses_it_and_people_are_told(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "tree")
    said: list[str] = []
    with pytest.raises(SandboxUnavailable, match="TROOP_SANDBOX_KIND=docker"):
        await open_sandbox(SETTINGS, source, server=True, notice=said.append)
    opened = await open_sandbox(SETTINGS, source, config=RepoConfig(setup="make deps"), notice=said.append)
    assert isinstance(opened, ProcessSandbox)
    assert "is not run" in said[0]
    assert "--sandbox docker" in said[1]
    opened.isolation = Isolation.PLAIN
    assert "can read and write your files" in describe(opened)
    await opened.close()


async def test_a_job_of_a_closed_sandbox_ends(tmp_path: Path) -> None:
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path / "tree"))
    job = asyncio.create_task(opened.run(command("sleep", str(LONG), timeout=PATIENCE)))
    await eventually(lambda: opened._running)
    await opened.close()
    with pytest.raises(SandboxError, match="closed"):
        await job


async def test_a_cancelled_job_leaves_nothing_running(tmp_path: Path) -> None:
    opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path / "tree"))
    for isolation in (opened.isolation, Isolation.PLAIN):
        opened.isolation = isolation
        job = asyncio.create_task(opened.run(command("sleep", "61234567", timeout=PATIENCE)))
        await eventually(lambda: running("61234567"))
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert not running("61234567")
    await opened.close()


async def test_a_tree_of_50_mb_is_not_copied_for_a_job(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "tree")
    (source / "big.bin").write_bytes(os.urandom(1 << 20) * 50)
    opened = await ProcessSandbox.open(SETTINGS, source)
    try:
        body = (
            "import os\nassert os.path.getsize('big.bin') == 50 << 20\n"
            "disk = os.statvfs('.')\nprint((disk.f_blocks - disk.f_bfree) * disk.f_frsize >> 20)\n"
        )
        result = await opened.run(python(body))
        assert result.ending is Ending.EXITED
        assert result.passed
        assert opened.isolation is not Isolation.OVERLAY or int(result.output) < 10, "MB on the job's own disk"
    finally:
        await opened.close()
