"""What the service needs and what is killed: its own processes, Redis, PostgreSQL, a writer of SQLite, Docker."""

import contextlib
import io
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

import docker

from bot.sandbox import docker_engine
from tests.chaos import child
from tests.patience import PATIENCE
from tests.services import RedisServer, redis_executable


class Target(Protocol):
    """Something that dies."""

    name: str

    def kill(self) -> None:
        """SIGKILL, and start it again."""

    def close(self) -> None:
        """End it for good."""


_FORKS = multiprocessing.get_context("forkserver")  # imports, which take seconds, are made once
_FORKS.set_forkserver_preload(["tests.chaos.child"])


class Part:
    """A process of the service. It is started again whenever it ended, as a service manager would."""

    def __init__(self, kind: str, settings: str, folder: Path, docker: str) -> None:
        self.name = "web" if kind == "serve" else "worker"
        self.starts = 0
        self._arguments = (kind, settings, str(folder / f"{kind}-{random.getrandbits(32):08x}.log"), docker)
        self._lock = threading.Lock()
        self._process: ForkServerProcess | None = None
        self.tend()

    def tend(self) -> None:
        """Start it where it does not run."""
        with self._lock:
            if self._process is None or self._process.exitcode is not None:
                self._process = _FORKS.Process(target=child.run, args=self._arguments, daemon=True)
                self._process.start()
                self.starts += 1

    def kill(self) -> None:
        self.close()
        self.tend()

    def close(self) -> None:
        with self._lock:
            assert self._process is not None
            self._process.kill()
            self._process.join()


class Redis:
    name = "Redis"

    def __init__(self, folder: Path) -> None:
        executable = redis_executable()
        if executable is None:
            raise SystemExit("no redis-server: apt-get install redis-server")
        self._server = RedisServer(executable, folder)
        self._server.start()
        self.url = self._server.url

    def kill(self) -> None:
        self._server.stop()  # by SIGKILL; all that it held is gone
        self._server.start()

    def close(self) -> None:
        self._server.stop()


class Postgres:
    """A server of its own, whose main process is killed; what it has committed is on its disk.

    `durable`: also after a power cut, which costs an fsync a commit.
    """

    name = "database"

    def __init__(self, *, durable: bool = False) -> None:
        self._sync = () if durable else ("-F",)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        initdb = str(found[-1]) if found else shutil.which("initdb")
        if initdb is None:
            raise SystemExit("no PostgreSQL: apt-get install postgresql")
        self._user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        self._folder = Path(tempfile.mkdtemp(prefix="troop-chaos-pg-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        made = ("--username=troop", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        argv = [initdb, "--pgdata", str(self._folder / "data"), *made]
        subprocess.run(argv, check=True, capture_output=True, user=self._user, cwd=self._folder)
        self._programs = Path(initdb).parent
        self._log = (self._folder / "log").open("wb")
        self._process = self._start()
        self._answers()
        self.url = f"postgresql://troop@/postgres?host={self._folder}"

    def _start(self) -> subprocess.Popen[bytes]:
        options = ("-D", str(self._folder / "data"), "-k", str(self._folder), "-h", "", *self._sync)
        sizes = ("-c", "shared_buffers=16MB", "-c", "max_connections=100")
        argv = [str(self._programs / "postgres"), *options, *sizes]
        return subprocess.Popen(argv, stdout=self._log, stderr=self._log, user=self._user, cwd=self._folder)

    def _answers(self) -> None:
        """Wait until it does, starting it again while the killed one's children still hold its memory."""
        ready = [str(self._programs / "pg_isready"), "-h", str(self._folder), "-q"]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")
            if self._process.poll() is not None:
                self._process = self._start()
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.start()

    def start(self) -> None:
        """Again, after `stop`."""
        self._process = self._start()
        self._answers()

    def stop(self) -> None:
        """In order, which ends all connections."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


_WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE run SET progress = 'torn', state = 'failed', attempt = attempt + 1")
print("writing", flush=True)
time.sleep(600)
"""


class SqliteWriter:
    """SQLite has no process of its own: what dies is one that is writing to the file, in the midst of a transaction."""

    name = "database"

    def __init__(self, file: Path) -> None:
        self._file = file
        self.url = f"sqlite:///{file}"

    def kill(self) -> None:
        argv = [sys.executable, "-c", _WRITER, str(self._file)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # it holds the lock, or could not get it
            writer.kill()

    def close(self) -> None:
        """There is nothing to end."""


class Docker:
    """A daemon of its own beside the machine's, without networks and with one image: programs of this machine.

    Live restore is off: its containers end with it. Its containerd is a process of its own, as in installations.
    """

    name = "Docker"
    image = "troop-chaos:latest"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "docker"
        self._folder.mkdir()
        self.address = f"unix://{self._folder}/socket"
        self._log = (self._folder / "log").open("wb")
        self._containerd = self._run(("containerd",), "--root", "images", "--state", "state", "--address", "containerd")
        self._process = self._start()
        self._answers()
        with self._client() as client:
            told = client.import_image_from_data(_programs(), repository="troop-chaos", tag="latest")
            assert client.images(self.image), told

    @staticmethod
    def missing() -> str:
        """What it can't be started without, or nothing."""
        there = os.geteuid() == 0 and shutil.which("dockerd") and shutil.which("containerd")
        return "" if there else "dockerd and containerd must be installed, and started by root"

    def left(self) -> list[str]:
        """What the service made and did not remove, once the sweep of a worker's start has looked at it."""
        with self._client() as client:
            docker_engine.sweep(client)
            made = {"label": docker_engine.LABEL}
            containers = [f"container {one['Names']}" for one in client.containers(all=True, filters=made)]
            return containers + [f"image {one['Id']}" for one in client.images(filters=made)]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process = self._start()
        self._answers()

    def close(self) -> None:
        for process in (self._process, self._containerd):  # the first ends containers and unmounts what they had
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in reversed(mounted):  # each one that was killed has left its own
            if place.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        (self._folder / "daemon.json").write_text("{}")  # not the machine's
        closed = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--live-restore=false")
        places = ("--data-root", "data", "--exec-root", "exec", "--pidfile", "pid", "--config-file", "daemon.json")
        # In a network namespace of its own: where it is to have no bridge it removes the machine's.
        apart = ("unshare", "--net", "dockerd")
        return self._run(apart, *places, "--containerd", "containerd", f"--host={self.address}", *closed)

    def _run(self, program: tuple[str, ...], *arguments: str) -> subprocess.Popen[bytes]:
        """What does not begin with a dash is a place in the folder."""
        argv = [one if one.startswith("-") else str(self._folder / one) for one in arguments]
        return subprocess.Popen(
            [*program, *argv], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def _answers(self) -> None:
        """Wait until it does, starting it again where what the killed one left was in its way."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                docker_engine._knock(self.address)  # else the SDK leaks a socket each time that nobody answers
                with self._client() as client:
                    client.ping()
                return
            except docker_engine.TROUBLE as error:
                if time.monotonic() > deadline:
                    told = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise AssertionError(f"dockerd does not start: {told}") from error
            if self._process.poll() is not None:
                self._process = self._start()
            time.sleep(0.05)

    def _client(self) -> "contextlib.closing[docker.APIClient]":
        return contextlib.closing(docker.APIClient(self.address, version="auto", timeout=60))


_PROGRAMS = ("sh", "sleep", "timeout", "cp", "rm", "tar", "mkdir", "cat", "chmod", "test", "env")


def _programs() -> bytes:
    """A file system with what a sandbox's jobs need, taken from this machine: importing it takes a second."""
    paths = {str(Path(found).resolve()): f"/bin/{name}" for name in _PROGRAMS if (found := shutil.which(name))}
    assert len(paths) == len(_PROGRAMS), f"one is missing here: {_PROGRAMS}"
    listed = subprocess.run(["ldd", *paths], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        paths.setdefault(library, library)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file, place in paths.items():
            tar.add(os.path.realpath(file), place)
    return buffer.getvalue()
