"""Servers beside tests: real ones, in namespaces and in containers."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
import pytest_asyncio

from bot.contracts import Sandbox
from bot.errors import SandboxError
from bot.recipe import Recipe
from bot.recipe.services import with_services
from bot.records import FileChange, SandboxJob, Service
from bot.repo_config import RepoConfig
from bot.sandbox import services
from bot.sandbox.build import Plan
from bot.sandbox.pool import DockerSandbox
from bot.sandbox.process import Isolation, ProcessSandbox
from bot.sandbox.services import Beside, command, in_words, told
from bot.settings import SandboxSettings
from tests.bot.sandbox.behaviour import LONG, make_tree, python, running, stopped
from tests.patience import PATIENCE, eventually
from tests.services import redis_executable
from tests.services_docker import client, docker_address, sandbox_image

__all__ = ["client", "docker_address", "sandbox_image"]

POSTGRES = Service(kind="postgres", port=5433, user="app", databases=("app_test",), hosts=("db",), asked="postgres:8")
REDIS = Service(kind="redis", port=6379, password="it", hosts=("cache",))
VARIABLES = {"DATABASE_URL": "postgres://app@db:5433/app_test", "TOLD": "here"}
SETTINGS = SandboxSettings(kind="process", concurrency=2, memory="1g", pids=256)


def shell(line: str, *changes: FileChange) -> SandboxJob:
    return SandboxJob(command=("sh", "-c", line), changes=changes, timeout=PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    if not shutil.which("psql"):
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    redis = redis_executable()
    if redis is None:
        pytest.skip("no redis-server: apt-get install redis-server")
    recipe = Recipe(services=(POSTGRES, REDIS), variables=VARIABLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}:{Path(redis).parent}")
        opened = await ProcessSandbox.open(SETTINGS, make_tree(tmp_path_factory.mktemp("tree")), recipe=recipe)
    if opened.isolation is Isolation.PLAIN:
        await opened.close()
        pytest.skip("this kernel gives us no namespaces")
    yield opened
    await opened.close()


_PINGS = """
import socket, sys
cache = socket.create_connection(("cache", 6379))
cache.sendall(b"".join(b"AUTH %s\\r\\n" % word.encode() for word in sys.argv[1:]) + b"PING\\r\\n")
said = b""
while b"PONG" not in said:
    said += cache.recv(99) or exit(str(said))
print("PONG")
"""


async def finds_them(sandbox: Sandbox, password: str = "it") -> None:
    said = await sandbox.run(
        shell(
            "psql -tA $DATABASE_URL -c 'select current_user' && psql -tA -p 5433 -U app app_test -c 'select 7' &&"
            f" echo $TOLD && python3 -c '{_PINGS}' {password}"
        )
    )
    assert said.passed, said
    assert said.output.split()[:3] == ["app", "7", "here"]
    assert "PONG" in said.output


async def starts_anew(sandbox: Sandbox) -> None:
    job = shell("psql -q $DATABASE_URL -c 'create table kept (a int)' && echo made")
    assert [one.output.strip() for one in await asyncio.gather(*map(sandbox.run, [job] * 3))] == ["made"] * 3
    assert (await sandbox.run(job)).output.strip() == "made", "nothing of a job's data is there for the next one"


@pytest.mark.asyncio(loop_scope="module")
class TestInNamespaces:
    async def test_a_job_finds_them_by_port_name_and_socket(self, processes: ProcessSandbox) -> None:
        await finds_them(processes)

    async def test_each_job_has_new_ones_also_beside_another(self, processes: ProcessSandbox) -> None:
        await starts_anew(processes)

    async def test_versions_are_told_and_one_that_is_another_than_asked_for(self, processes: ProcessSandbox) -> None:
        postgres, redis = processes.environment.services
        assert postgres.startswith("postgres PostgreSQL ")
        assert redis.startswith("redis Redis ")
        (note,) = processes.notes
        assert note == f"beside tests runs {postgres.removeprefix('postgres ')}, in the place of postgres:8"
        assert f"{redis.removeprefix('redis ')} on localhost:6379 (password it)" in processes.servers

    async def test_a_judged_script_and_a_candidate_may_use_them(self, processes: ProcessSandbox) -> None:
        pytest.importorskip("psycopg")
        code = (
            "import os, psycopg\ndef add(a, b):\n    with psycopg.connect(os.environ['DATABASE_URL']) as c:\n"
            "        return c.execute('select %s::int + %s::int', (a, b)).fetchone()[0]\n"
        )
        test = "from pkg.core import add\nassert add(2, 3) == 5\n"
        fix = FileChange(path="pkg/core.py", text=code)
        assert (await processes.run(python(test, fix))).passed
        assert not (
            await processes.run(python(test, FileChange(path="pkg/core.py", text=code.replace("+", "-"))))
        ).passed

    async def test_what_the_database_runs_has_no_more_rights_than_it(self, processes: ProcessSandbox) -> None:
        program = "umask 022; (id -u; su -c true </dev/null && echo root) >/tmp/troop/services/who 2>&1; true"
        job = shell(f"psql -q $DATABASE_URL -c \"copy (select 1) to program '{program}'\"; cat /tmp/troop/services/who")
        said = (await processes.run(job)).output.split()
        assert said[0] == (str(os.geteuid()) if os.geteuid() else "65534"), said
        assert "root" not in said

    async def test_they_end_with_their_job_and_do_not_take_of_its_time(self, processes: ProcessSandbox) -> None:
        script = f"import time\nprint('begins', flush=True)\ntime.sleep({LONG})\n"
        assert (await stopped(processes, script, "begins")).output.strip() == "begins"
        await eventually(lambda: not running("/tmp/troop/services/postgres"))


WORKFLOW = """
jobs:
  test:
    services:
      db: {image: "postgres:15", env: {POSTGRES_USER: app, POSTGRES_DB: app_test}, ports: ["5433:5432"]}
      shop: {image: mariadb, env: {MARIADB_USER: me, MARIADB_PASSWORD: pw, MARIADB_DATABASE: shop}}
      cache: {image: redis}
      memory: {image: memcached}
    steps:
      - run: python3 prepare/manage.py migrate
      - run: pytest
        env: {DATABASE_URL: "postgres://app@db:5433/app_test", TOLD: here}
"""


MIGRATES = """
import os
open("made.txt", "w").write("made ")
for name in sorted(os.listdir("migrations")):
    assert os.system(f"psql -q -v ON_ERROR_STOP=1 $DATABASE_URL -f migrations/{name}") == 0
os.system("mysql -u me -ppw shop -e 'create table prepared (a int)'; redis-cli set prepared yes; sleep 1000 &")
"""
_TABLES = "mysql -u me -ppw shop -e 'show tables'"
LOOKS = f"psql -tA $DATABASE_URL -c '\\dt' && cat made.txt && {_TABLES} && redis-cli get prepared"


async def is_kept_from_the_job_s_own_folders(sandbox: DockerSandbox) -> None:
    """What servers run, from data that a candidate prepared, is there before the candidate's judge."""
    writes = "umask 022; touch /tmp/mine /repo/mine /repo/tree/mine /repo/test/mine 2>/services/said; true"
    job = shell(
        f"psql -q $DATABASE_URL -c \"copy (select 1) to program '{writes}'\"; cat /services/said; ls /tmp /repo"
    )
    said = (await sandbox.run(job)).output
    assert said.count("Permission denied") == 4
    assert "mine" not in said.splitlines()


async def is_prepared(sandbox: DockerSandbox) -> None:
    """Once, on the base commit; anew for a candidate that changes what the preparation read."""
    other = FileChange(path="pkg/core.py", text="def add(a, b):\n    return 0\n")
    second = FileChange(path="migrations/2.sql", text="create table second (a int);")
    for changes in (), (other,), (second,):
        said = await sandbox.run(shell(LOOKS, *changes))
        found = said.output.split()
        assert {"public|first|table|app", "made", "prepared", "yes"} <= set(found), said
        assert ("public|second|table|app" in found) is (second in changes)
    broken = await sandbox.run(shell(LOOKS, FileChange(path="migrations/1.sql", text="create nonsense")))
    assert not broken.passed
    assert "`prepare` command does not pass here" in broken.output


@pytest.mark.service
async def test_in_containers_they_are_installed_by_a_layer_and_each_job_has_new_ones(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    source = make_tree(tmp_path / "tree")
    for path, text in {"prepare/manage.py": MIGRATES, "migrations/1.sql": "create table first (a int);"}.items():
        (source / path).parent.mkdir()
        (source / path).write_text(text)
    files = {".github/workflows/test.yml": WORKFLOW}
    recipe = with_services(Recipe(), list(files), files.get, RepoConfig(), installs=True)
    settings = SandboxSettings(kind="docker", image=sandbox_image, concurrency=2, setup_timeout=5 * PATIENCE)
    sandbox = await DockerSandbox.open(settings, source, plan=Plan(recipe, f"octo/{os.urandom(8).hex()}"))
    try:
        assert [one.partition(" ")[0] for one in sandbox.environment.services] == [
            "postgres",
            "mysql",
            "redis",
            "memcached",
        ]
        assert sandbox.notes == ()
        await finds_them(sandbox, password="")
        await starts_anew(sandbox)
        await is_kept_from_the_job_s_own_folders(sandbox)
        await is_prepared(sandbox)
        mysql = "mysql -h shop -u me -ppw shop -e 'create table kept (a int)' && mysql -u me -ppw shop -e 'show tables'"
        for _ in range(2):
            assert "kept" in (await sandbox.run(shell(mysql))).output
        told = await sandbox.run(shell("for f in /proc/[0-9]*; do stat -c %u $f; done | sort -u; id -u; id"))
        users = set(told.output.split("uid=")[0].split())
        assert {"10002", "65534"} < users, "the keeper of the container, and the servers"
        assert "0" not in users
    finally:
        await sandbox.close()


_SQL = "psql -q -h localhost -p 5433 -U app app_test -c"
HOSTILE = {
    "loses data": f"{_SQL} \"copy (select 1) to program 'rm -rf /services/postgres/base; true'\"",
    "runs at start": f"{_SQL} 'alter system set archive_mode=on'; {_SQL} "
    "\"alter system set archive_command='mkdir -p /repo/test /repo/tree /tmp/.local; false'\"",
    "does not start": f"{_SQL} \"copy (select 'x = = 1') to '/services/postgres/postgresql.auto.conf'\"",
    "does not end": f"sleep {LONG}",
    "floods": "yes",
}


@pytest.mark.service
@pytest.mark.slow  # waits for what does not end
async def test_attack_31_a_candidate_s_preparation_harms_the_candidate_alone(
    sandbox_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.sandbox.prepared.LEAST", 10.0)
    source = make_tree(tmp_path / "tree")
    (source / "prepare.sh").write_text(f"{_SQL} 'create table made (a int)'\n")
    config = RepoConfig(services=(POSTGRES,), prepare="sh prepare.sh")
    recipe = with_services(Recipe(), [], {}.get, config, installs=True)
    settings = SandboxSettings(kind="docker", image=sandbox_image, concurrency=2, setup_timeout=5 * PATIENCE)
    sandbox = await DockerSandbox.open(settings, source, plan=Plan(recipe, f"octo/{os.urandom(8).hex()}"))
    looks = "ls -A /tmp; stat -c %u /repo/test; id -u"
    try:
        for name, text in HOSTILE.items():
            said = await sandbox.run(shell(looks, FileChange(path="prepare.sh", text=text)))
            assert said.passed is (name in ("loses data", "runs at start")), (name, said)
            if said.passed:
                *_, owner, user = said.output.split()
                assert owner == user, name
                assert ".local" not in said.output
        after = await sandbox.run(shell(f"{_SQL} 'select * from made'"))
        assert after.passed, after
    finally:
        await sandbox.close()


# The beginning of AMQP 0-9-1: a connection, an account, a virtual host.
AMQP = """
import socket, struct
s = socket.create_connection(("mq", 5672))
s.sendall(b"AMQP\\0\\0\\x09\\x01")
def frame():
    size = struct.unpack(">L", s.recv(7, socket.MSG_WAITALL)[3:])[0]
    return s.recv(size + 1, socket.MSG_WAITALL)
def send(body):
    s.sendall(b"\\1\\0\\0" + struct.pack(">L", len(body)) + body + b"\\xce")
def long(text):
    return struct.pack(">L", len(text)) + text
assert frame()[:4] == bytes([0, 10, 0, 10])
send(bytes([0, 10, 0, 11]) + long(b"") + b"\\5PLAIN" + long(b"\\0me\\0p#w") + b"\\5en_US")
tune = frame()
assert tune[:4] == bytes([0, 10, 0, 30])
send(bytes([0, 10, 0, 31]) + tune[4:12])
send(bytes([0, 10, 0, 40]) + b"\\3app\\0\\0")
assert frame()[:4] == bytes([0, 10, 0, 41])
"""


@pytest.mark.service
@pytest.mark.slow  # installs Erlang
async def test_rabbitmq_runs_in_containers_with_its_account_and_virtual_host(
    sandbox_image: str, tmp_path: Path
) -> None:
    env = "{RABBITMQ_DEFAULT_USER: me, RABBITMQ_DEFAULT_PASS: 'p#w', RABBITMQ_DEFAULT_VHOST: app}"
    workflow = f"jobs: {{test: {{services: {{mq: {{image: 'rabbitmq:3', env: {env}}}}}, steps: [run: pytest]}}}}"
    files = {".github/workflows/test.yml": workflow}
    recipe = with_services(Recipe(), list(files), files.get, RepoConfig(prepare="true"), installs=True)
    settings = SandboxSettings(kind="docker", image=sandbox_image, concurrency=2, setup_timeout=5 * PATIENCE)
    plan = Plan(recipe, f"octo/{os.urandom(8).hex()}")
    sandbox = await DockerSandbox.open(settings, make_tree(tmp_path / "tree"), plan=plan)
    try:
        assert "(user me, password p#w, virtual host app)" in sandbox.servers
        for _ in range(2):  # also on what the first one left
            assert (await sandbox.run(python(AMQP))).passed
    finally:
        await sandbox.close()


def test_what_came_of_starting_them_is_told() -> None:
    asked = (POSTGRES, REDIS, Service(kind="mysql", port=3306), Service(kind="memcached", port=11211))
    found = told(asked, "postgres PostgreSQL 8.4.1\nredis failed: it is not installed\nmysql MariaDB 10.11.18\n")
    assert found.running == (asked[0], asked[2])
    assert found.versions == ("postgres PostgreSQL 8.4.1", "mysql MariaDB 10.11.18")
    assert [note.partition(":")[0] for note in found.notes] == [
        "Redis does not run beside tests, which may fail for want of it",
        "Memcached does not run beside tests, which may fail for want of it",
    ]
    assert "not answer in time" in found.notes[1]
    assert in_words(found.running, found.versions, ("URL",)) == (
        "Beside each test runs, with no data in it: PostgreSQL 8.4.1 on localhost:5433 (user app, database app_test); "
        "MariaDB 10.11.18 on localhost:3306 (user root). In its environment: URL."
    )
    assert in_words((), (), ("URL",)) == ""
    assert told((), "") == ((), (), ())


@pytest.mark.asyncio(loop_scope="module")
async def test_where_one_does_not_start_that_did_the_sandbox_failed_and_not_the_test(
    processes: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "command", lambda beside, place: ("sh", "-c", "exit 1"))
    with pytest.raises(SandboxError, match="the servers beside the test did not start"):
        await processes.run(shell("true"))


@pytest.mark.parametrize(("surely", "status"), [(False, 0), (True, 1)])
def test_what_is_not_installed_is_told(surely: bool, status: int, tmp_path: Path) -> None:
    argv = command(Beside((POSTGRES,), surely), str(tmp_path))
    found = subprocess.run(("sh", "-c", argv[2].replace("initdb", "no-initdb"), *argv[3:]), check=False)
    assert found.returncode == status
    assert (tmp_path / "told").read_text() == "postgres failed: it is not installed \n"


def test_the_command_has_a_word_for_each_part() -> None:
    assert command(Beside((POSTGRES, REDIS)), "/there")[4:] == (
        "/there",
        "-",
        "maybe",
        "postgres 5433 app - - app_test",
        "redis 6379 - it - -",
    )
