"""The Docker sandbox on a real Docker Engine."""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio

from bot.errors import SandboxError, SandboxUnavailable
from bot.records import Ending, SandboxJob, Test
from bot.sandbox import containers, docker_engine, images, inside, open_sandbox
from bot.sandbox.containers import KEEPER, Container
from bot.sandbox.pool import DockerSandbox
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.bot.sandbox.behaviour import LONG, Attacks, Work, command, make_tree, python, running
from tests.patience import PATIENCE, eventually
from tests.services_docker import docker_address, sandbox_image

pytestmark = pytest.mark.service
module_loop = pytest.mark.asyncio(loop_scope="module")
__all__ = ["docker_address", "sandbox_image"]


def settings(image: str, **others: Any) -> SandboxSettings:
    return SandboxSettings(kind="docker", image=image, concurrency=2, memory="256m", pids=64, **others)


@pytest.fixture
def client(docker_address: str) -> Iterator[docker.APIClient]:
    client = docker_engine.connect()
    yield client
    client.close()


def until_told(digits: str) -> SandboxJob:
    """A job that lasts until `tell`. Once it has begun, it is a process `sleep 0.05DIGITS` most of the time."""
    return command("sh", "-c", "while test ! -e /tmp/told; do sleep 0.05$0; done; echo done", digits)


def tell(client: docker.APIClient, sandbox: DockerSandbox) -> None:
    """End the job of the busy containers."""
    for container in sandbox._busy:
        execution = client.exec_create(container.id, ["touch", "/tmp/told"], user=container.user)["Id"]
        client.exec_start(execution)
        assert client.exec_inspect(execution)["ExitCode"] == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(sandbox_image: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DockerSandbox]:
    sandbox = await DockerSandbox.open(settings(sandbox_image), make_tree(tmp_path_factory.mktemp("tree")))
    yield sandbox
    await sandbox.close()


@module_loop
class TestDocker(Work, Attacks):
    @pytest_asyncio.fixture(loop_scope="module")
    async def sandbox(self, opened: DockerSandbox) -> DockerSandbox:
        return opened

    async def test_the_options_of_a_container(self, sandbox: DockerSandbox, client: docker.APIClient) -> None:
        assert (await sandbox.run(command("true"))).passed
        found = client.inspect_container(sandbox._idle[-1].id)
        host = found["HostConfig"]
        wanted = {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "size=512m,mode=1777", "/repo": "size=1g,exec"},
            "PidsLimit": 64,
            "Memory": 256 << 20,
            "MemorySwap": 256 << 20,
            "NanoCpus": 10**9,
            "Init": True,
            "IpcMode": "private",
            "LogConfig": {"Type": "none", "Config": {}},
            "Binds": None,
            "Privileged": False,
        }
        assert {name: host[name] for name in wanted} == wanted
        assert {limit["Name"] for limit in host["Ulimits"]} == {"nofile", "fsize", "core"}
        assert found["Config"]["User"] == KEEPER
        assert found["Config"]["Labels"]["troop"] == "sandbox"
        assert int(found["Config"]["Labels"]["troop.expires_at"]) > time.time()
        assert found["Mounts"] == []

    async def test_what_judges_scripts_is_compiled_where_no_job_can_change_it(self, sandbox: DockerSandbox) -> None:
        names = [f"{images.ROOT}/{name}c" for name in inside.FILES if name.endswith(".py")]
        listed = await sandbox.run(command("stat", "-c", "%a %U", *names))
        assert listed.output == "644 root\n" * len(names), listed

    async def test_one_container_serves_many_jobs(self, sandbox: DockerSandbox) -> None:
        assert (await sandbox.run(command("true"))).passed
        before = {container.id for container in sandbox._idle}
        for _ in range(3):
            assert (await sandbox.run(command("true"))).passed
        assert {container.id for container in sandbox._idle} == before

    @pytest.mark.parametrize(
        "leave",
        [
            "assert libc.shmget(0, 4096, 0o1600) >= 0",
            "assert libc.semget(0, 1, 0o1600) >= 0",
            "assert libc.msgget(0, 0o1600) >= 0",
            "assert ctypes.CDLL('librt.so.1').mq_open(b'/left', 0o102, 0o600, None) >= 0",
            "open('/dev/shm/left', 'w')",
            "import socket\nserver = socket.create_server(('127.0.0.1', 8765))\n"
            "client = socket.create_connection(server.getsockname())\nserver.accept()[0].close()\nclient.recv(1)",
        ],
        ids=["shared memory", "semaphore", "queue", "POSIX queue", "file", "connection"],
    )
    async def test_attack_31_nothing_survives_a_job(self, sandbox: DockerSandbox, leave: str) -> None:
        assert (await sandbox.run(command("true"))).passed
        result = await sandbox.run(python(f"import ctypes\nlibc = ctypes.CDLL(None)\n{leave}\n"))
        assert result.passed, result
        seen = (
            "cat /proc/sysvipc/* /proc/net/tcp | grep -cv 'key\\|address'; ls -A /dev/mqueue /dev/shm | grep left; true"
        )
        for _ in range(sandbox._concurrency):  # whichever container takes it
            assert (await sandbox.run(command("sh", "-c", seen))).output == "0\n"

    async def test_attack_22_containers_share_no_user(self, sandbox: DockerSandbox, client: docker.APIClient) -> None:
        """What the kernel grants a user could be used up by one candidate, and missing to another one."""
        jobs = [asyncio.create_task(sandbox.run(until_told(digits))) for digits in ("14142135", "17320508")]
        await eventually(lambda: running("0.0514142135") and running("0.0517320508"))
        assert len({container.user for container in sandbox._busy}) == 2
        tell(client, sandbox)
        assert all(result.passed for result in await asyncio.gather(*jobs))

    async def test_attack_31_what_keeps_the_container_is_out_of_a_jobs_reach(self, sandbox: DockerSandbox) -> None:
        """By ptrace, init or `sleep` could become what the candidate wants, and rewrite the next candidate's files."""
        body = (
            "import ctypes, os\n"
            "libc = ctypes.CDLL(None)\n"
            "def refused(act):\n"
            "    try: return act() == -1\n"
            "    except OSError: return True\n"
            "kept = []\n"
            "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
            "    if int(pid) in (os.getpid(), os.getppid()): continue\n"
            "    kept.append(open(f'/proc/{pid}/comm').read())\n"
            "    assert refused(lambda: libc.ptrace(16, int(pid), 0, 0)), pid\n"
            "    assert refused(lambda: os.kill(int(pid), 0)), pid\n"
            "    assert refused(lambda: open(f'/proc/{pid}/mem', 'r+b').close()), pid\n"
            "    assert refused(lambda: os.setpriority(os.PRIO_PROCESS, int(pid), 19)), pid\n"
            "assert len(kept) >= 2, kept\n"
            "print(open('/proc/self/status').read())\n"
        )
        result = await sandbox.run(python(body))
        assert result.passed, result
        assert "NoNewPrivs:\t1\n" in result.output
        assert "CapEff:\t0000000000000000\n" in result.output

    async def test_attack_31_what_lives_on_is_seen_from_outside(
        self, sandbox: DockerSandbox, client: docker.APIClient
    ) -> None:
        """A child that hides from the container's own /proc by being born all the time, and outlives its test."""
        body = (
            "import os, sys, time\n"
            "if os.fork() == 0:\n    os.setsid()\n    while True:\n"
            "        if os.fork(): os._exit(0)\n        time.sleep(0.001)\n"
        )
        assert (await sandbox.run(command("true"))).passed
        before = {container.id for container in sandbox._idle}
        await sandbox.run(python(body))
        served = before - {container.id for container in sandbox._idle}
        assert len(served) == 1

        def gone() -> bool:
            return not served & {container["Id"] for container in client.containers(all=True)}

        await eventually(gone)

    async def test_the_counts_are_asked_of_the_container_where_its_group_is_elsewhere(
        self, sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin = sandbox._client.exec_start

        def losing(execution: str, socket: bool = False) -> Any:
            """As of a daemon elsewhere: the SDK loses what a quick command printed."""
            return begin(execution, socket=True) if socket else begin(execution)[:0]

        monkeypatch.setattr(sandbox._client, "exec_start", losing)
        monkeypatch.setattr(sandbox._client, "top", lambda container: {"Processes": []})
        assert (await sandbox.run(command("true"))).passed
        for container in sandbox._idle:
            assert container._counts, "here the groups of containers can be read"
            monkeypatch.setattr(container, "_counts", [])
            monkeypatch.setattr(container, "_at_rest", container._look().tasks)
        (*_, container) = sandbox._idle
        assert (await sandbox.run(command("true"))).passed
        assert container in sandbox._idle
        left = "import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        assert (await sandbox.run(python(left))).passed
        assert container not in sandbox._idle
        bomb = "kept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 22)))\n"
        assert (await sandbox.run(python(bomb))).ending is Ending.OUT_OF_MEMORY

    @pytest.mark.parametrize("body", [f"import time; time.sleep({LONG})", "import os; os.kill(os.getppid(), 9)"])
    async def test_a_container_with_a_suspicious_end_is_replaced(
        self, sandbox: DockerSandbox, client: docker.APIClient, body: str
    ) -> None:
        assert (await sandbox.run(command("true"))).passed
        used = sandbox._idle[-1].id
        assert not (await sandbox.run(python(body, timeout=1))).passed
        assert used not in {container.id for container in sandbox._idle}

        def gone() -> bool:
            return all(container["Id"] != used for container in client.containers(all=True))

        await eventually(gone)

    async def test_a_job_that_kills_its_container_is_killed_and_no_trouble_of_docker(
        self, sandbox: DockerSandbox
    ) -> None:
        result = await sandbox.run(python("import os; os.kill(-1, 9)"))
        assert result.ending is Ending.KILLED

    async def test_out_of_memory_is_told_apart_from_a_kill(self, sandbox: DockerSandbox) -> None:
        result = await sandbox.run(python("kept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 22)))\n"))
        assert result.ending is Ending.OUT_OF_MEMORY
        assert (await sandbox.run(command("sh", "-c", "exit 124"))).exit_code == 124

    async def test_a_container_that_vanished_is_replaced(
        self, sandbox: DockerSandbox, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(containers, "_PAUSE", 0.01)
        assert (await sandbox.run(command("true"))).passed
        for container in sandbox._idle:
            client.remove_container(container.id, force=True)
        assert (await sandbox.run(command("echo", "again"))).output == "again\n"

    async def test_a_container_that_vanishes_during_a_job_means_another_try(
        self, sandbox: DockerSandbox, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(containers, "_PAUSE", 0.01)
        job = asyncio.create_task(sandbox.run(until_told("27182818")))
        await eventually(lambda: running("0.0527182818"))
        (first,) = sandbox._busy
        client.remove_container(first.id, force=True)
        await eventually(lambda: sandbox._busy - {first} and running("0.0527182818"))
        tell(client, sandbox)
        assert (await job).output == "done\n"

    async def test_fault_containers_that_a_daemon_ends_again_and_again_are_no_result_of_a_test(
        self, sandbox: DockerSandbox, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A daemon that restarts ends all containers, and may do so on two tries in a row."""
        monkeypatch.setattr(containers, "_PAUSE", 0.01)
        job = asyncio.create_task(sandbox.run(until_told("57721566")))
        ended: set[Container] = set()

        def anew() -> bool:
            return not ended & sandbox._busy and bool(running("0.0557721566"))

        for _ in range(2):
            await eventually(anew)
            resting_first = sorted(sandbox._busy, key=lambda one: "57721566" in str(client.top(one.id)))
            for container in resting_first:
                client.kill(container.id)
            ended.update(resting_first)
        await eventually(anew)
        tell(client, sandbox)
        assert (await job).output == "done\n"

    async def test_a_cancelled_job_leaves_nothing_running(self, sandbox: DockerSandbox) -> None:
        job = asyncio.create_task(sandbox.run(command("sleep", "61234567", timeout=PATIENCE)))
        await eventually(lambda: running("61234567"))
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await eventually(lambda: not running("61234567"))


async def test_a_missing_python_is_unavailable_and_a_tree_of_50_mb_fits(sandbox_image: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "tree")
    (source / "big.bin").write_bytes(os.urandom(1 << 20) * 50)
    scripts = {".py": ("python9", "{script}"), ".txt": ("python3", "{script}")}
    sandbox = await DockerSandbox.open(settings(sandbox_image), source, scripts=scripts)
    try:
        assert (await sandbox.run(python("pass"))).ending is Ending.UNAVAILABLE
        text = "import os; assert os.path.getsize('big.bin') == 50 << 20"
        for _ in range(3):
            assert (await sandbox.run(SandboxJob(test=Test(path="t.txt", text=text)))).passed
    finally:
        await sandbox.close()


async def test_close_leaves_no_container_and_no_image(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    sandbox = await DockerSandbox.open(settings(sandbox_image), make_tree(tmp_path / "tree"))
    job = asyncio.create_task(sandbox.run(command("sleep", str(LONG), timeout=PATIENCE)))
    await eventually(lambda: sandbox._busy)
    await sandbox.close()
    await sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        await job
    assert not client.containers(all=True, filters={"label": f"troop.run={sandbox._run}"})
    assert sandbox._image not in {image["Id"] for image in client.images(all=True)}
    assert not sandbox._scratch.path.exists()


async def test_orphans_whose_time_is_over_are_swept(sandbox_image: str, client: docker.APIClient) -> None:
    made = {
        lifetime: client.create_container(sandbox_image, ["true"], labels=docker_engine.labels("sandbox", lifetime))[
            "Id"
        ]
        for lifetime in (-10, 600)
    }
    assert docker_engine.sweep(client) >= 1
    left = {container["Id"] for container in client.containers(all=True)}
    assert made[-10] not in left
    assert made[600] in left
    client.remove_container(made[600])


async def test_no_daemon_and_no_image_are_said_with_their_mend(
    docker_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_tree(tmp_path / "tree")
    said: list[str] = []
    absent = "localhost:1/no-such-image:1"
    with pytest.raises(SandboxUnavailable, match="make-base-image"):
        await open_sandbox(settings(absent), source, notice=said.append)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxUnavailable, match="no Docker daemon answers; install Docker"):
        await open_sandbox(settings(absent), source, notice=said.append)
    auto = SandboxSettings(kind="auto", image=absent)
    with pytest.raises(SandboxUnavailable):
        await open_sandbox(auto, source, server=True, notice=said.append)
    assert said == []
    sandbox = await open_sandbox(auto, source, notice=said.append)
    assert isinstance(sandbox, ProcessSandbox)
    assert "no Docker daemon answers" in said[0]
    assert "--sandbox docker" in said[1]
    await sandbox.close()


async def test_an_image_without_the_tools_is_refused(
    docker_address: str, tmp_path: Path, client: docker.APIClient
) -> None:
    empty = docker_engine.archive([("README", b"nothing", 0o644)])
    client.import_image_from_data(empty, repository="troop-test-empty", tag="latest")
    try:
        with pytest.raises(SandboxUnavailable, match="it needs sh, cp, rm, tar, sleep and timeout"):
            await DockerSandbox.open(settings("troop-test-empty"), make_tree(tmp_path / "tree"))
    finally:
        client.remove_image("troop-test-empty")


class Proxy:
    """Stands between the SDK and the daemon, and can hang up on both: a daemon that is restarted.

    It goes on listening, since the SDK leaks a socket each time that it can't connect at all.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self.path = folder / "docker.sock"
        self._refusals = 0.0  # connections yet to be refused
        self._target = target.removeprefix("unix://")
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    def hang_up(self, refusals: float = math.inf) -> None:
        """End all connections, and refuse so many that come."""
        self._refusals = refusals
        for writer in list(self._writers):
            writer.transport.abort()

    def come_back(self) -> None:
        self._refusals = 0

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusals > 0:
            self._refusals -= 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        other_reader, other_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, other_writer}
        await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))
        for one in (writer, other_writer):
            self._writers.discard(one)
            one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def test_fault_the_daemon_is_away_for_a_while(
    docker_address: str, sandbox_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: docker.APIClient
) -> None:
    if not docker_address.startswith("unix://"):
        pytest.skip("the Engine is on another machine")
    proxy = Proxy(tmp_path, docker_address)
    await proxy.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
    monkeypatch.setattr(containers, "_PAUSE", 0.01)
    sandbox = await DockerSandbox.open(settings(sandbox_image), make_tree(tmp_path / "tree"))
    job = asyncio.create_task(sandbox.run(until_told("31415926")))
    await eventually(lambda: running("0.0531415926"))
    (first,) = sandbox._busy
    proxy.hang_up(refusals=2)  # fewer than the attempts that are left
    await eventually(lambda: sandbox._busy and first not in sandbox._busy)
    (second,) = sandbox._busy
    await eventually(lambda: "0.0531415926" in str(client.top(second.id)))  # the first one may live on
    tell(client, sandbox)
    assert (await job).output == "done\n"

    proxy.hang_up()
    with pytest.raises(SandboxError, match="Docker failed 4 times in a row"):
        await sandbox.run(command("true"))
    proxy.come_back()
    await sandbox.close()
    assert not client.containers(all=True, filters={"label": f"troop.run={sandbox._run}"})
    await proxy.stop()
