"""A container that runs one job after another, through `docker exec`. Blocking: used from threads."""

import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import docker
import docker.errors
from docker.types import LogConfig, Ulimit
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from bot.contracts import Follow
from bot.records import Ending, Execution, FileChange, Record, Service
from bot.sandbox import docker_engine, docker_trouble, output
from bot.sandbox import services as servers
from bot.sandbox.exec_stream import Stream
from bot.sandbox.images import ROOT
from bot.sandbox.outcome import began, judge_exit, proof_of, results_of, withdrawn, words
from bot.settings import SandboxSettings

LIFETIME = 3600.0  # seconds after which a container takes no new job
_PAUSE = 0.5  # seconds before the second attempt, four times as long before each next one, so that a daemon can restart
_SLACK = 3600.0  # seconds more until a sweep removes it as an orphan
_PREPARE = 120.0  # seconds that cleaning and copying the tree may take
_LAST_SIGNAL = 128 + 64  # what is higher is an exit code: PHP and Perl end with 255 where nobody catches an error
_KILLED = 128 + 9  # exit code of what SIGKILL ended, be it alone or with its container
_SETTLE = 10.0  # seconds until the daemon must know how a job ended whose output has ended
_OWN_TASKS = 2  # of a container at rest: Docker's init and the `sleep` that keeps it
# Where a control group counts tasks and memory kills, in version 2 and in version 1.
_COUNTED = {"pids": ("pids.current", "pids.current"), "memory": ("memory.events", "memory.oom_control")}
_COUNTED_BYTES = 1 << 14
_COUNTS = tuple(
    f"/sys/fs/cgroup/{place}" for name, (new, old) in _COUNTED.items() for place in (new, f"{name}/{old}")
)  # as a container sees its own
# Jobs of each container have a user of their own: the kernel counts some things (watches of inotify, pages in pipes) by
# user, whatever the container, and one candidate could use up all that another one gets.
_FIRST_USER, _USERS, _GROUP = 20_000, 40_000, 10_001
# Of init and of the `sleep` that keeps the container: a job of the same user could take these over by ptrace, and
# outlive its end in them, uncounted.
KEEPER = "10002:10002"


class Broken(Exception):
    """The container or the daemon failed, perhaps not because of the job; worth another try on a new container.

    `execution` is the job's result where the same happens again while the daemon works.
    """

    def __init__(self, message: str, execution: Execution | None = None) -> None:
        super().__init__(message)
        self.execution = execution


class Dirty(Broken):
    """A job before this one left something in the container that can't be removed. A new container has nothing."""


def retrying(attempts: int) -> AsyncRetrying:
    """Attempts where a container, or the daemon, failed."""
    return AsyncRetrying(
        retry=retry_if_exception_type(Broken),
        wait=wait_exponential(_PAUSE, exp_base=4),
        stop=stop_after_attempt(attempts),
        reraise=True,
    )


class Seen(NamedTuple):
    """Counts of a container's control group."""

    tasks: int
    memory_kills: int


class Prepared(Record):
    """A job, as `job.sh` reads it."""

    runner: bool
    argv: tuple[str, ...]
    environment: dict[str, str]
    changes: tuple[FileChange, ...]
    marks: dict[str, str]  # by paths of changes, see `tree.marks_of`
    files: tuple[tuple[str, str], ...]  # name and text, below /repo
    timeout: float
    most: int  # bytes of its output that are kept
    image: str = ""  # whose container it runs in; "": the sandbox's own


class Container:
    """A running container of the tree image. One job at a time; with servers beside it, one job at all."""

    def __init__(
        self,
        client: docker.APIClient,
        image_id: str,
        settings: SandboxSettings,
        run: str,
        beside: servers.Beside = servers.NONE,
    ) -> None:
        """Start it, and the servers. Raises what the SDK raises, and `Broken` where a server does not start."""
        self._client = client
        self._beside = beside
        self._settings = settings
        self.user = f"{_FIRST_USER + secrets.randbelow(_USERS)}:{_GROUP}"
        self.started = time.monotonic()
        self.served = 0  # jobs that began, or could not
        self.id: str = client.create_container(
            image_id,
            entrypoint=["sleep"],
            command=[str(int(LIFETIME + _SLACK))],  # ends by itself, should this process be killed
            user=KEEPER,
            environment={},
            labels={**docker_engine.labels("sandbox", LIFETIME + _SLACK), docker_engine.RUN: run},
            host_config=client.create_host_config(**host_options(settings, beside.services, self.user)),
        )["Id"]
        try:
            client.start(self.id)
            if beside.services:
                if beside.made != servers.MADE:
                    self._close_folders()
                self._serve()
            self._counts = _counts_here(client.inspect_container(self.id)["State"]["Pid"], self.id)
            self._seen = self._look()
            self._at_rest = max(_OWN_TASKS, self._seen.tasks)  # some runtimes have more of their own
        except BaseException:
            self.destroy()
            raise

    def _close_folders(self) -> None:
        """Leave the job's folders to its user alone. Raises what the SDK raises, and `Broken`.

        Of what a candidate's preparation left in their data, servers may run programs before the job begins: these
        must not write where the job's script will be, or in its home.
        """
        execution = self._client.exec_create(self.id, ["chmod", "0755", "/tmp", "/repo"], user=self.user)["Id"]  # noqa: S108
        self._client.exec_start(execution)
        if self.exit_code(execution):
            raise Broken("the job's folders can't be closed to its servers")

    def _serve(self) -> None:
        """Start the servers; what came of it is in their folder. Raises what the SDK raises, and `Broken`."""
        argv = servers.command(self._beside, servers.PLACE, self._beside.made)
        execution = self._client.exec_create(self.id, argv, user=f"{servers.USER}:{servers.USER}")["Id"]
        stream = Stream(self._client.exec_start(execution, socket=True), _COUNTED_BYTES)
        try:
            started = stream.read(time.monotonic() + servers.STARTING) and self.exit_code(execution) == 0
        finally:
            stream.close()
        if self._beside.surely and not started:
            raise Broken("the servers beside a test did not start")

    def destroy(self) -> None:
        """Kill and remove it, which also ends a `run` under way."""
        docker_engine.destroy(self._client, self.id)

    def rests(self) -> bool:
        """Whether it is still there, and commands run in it."""
        try:
            return self._answers()
        except docker_engine.TROUBLE:
            return False

    def run(self, job: Prepared, follow: Follow | None = None) -> tuple[Execution, bool]:
        """The job's execution, and whether the container may serve another. Raises `Dirty`, `Broken`."""
        word, secret = secrets.token_hex(16), words()
        limit = str(int(job.timeout + 15))  # a second limit, for when the daemon is lost; our own clock comes first
        kind, state = "runner" if job.runner else "plain", "fresh" if self._beside.services else "used"
        argv = ["sh", f"{ROOT}/job.sh", limit, kind, state, *job.argv]
        stream: Stream | None = None
        try:
            made = self._client.exec_create(self.id, argv, stdin=True, environment=job.environment, user=self.user)
            execution = made["Id"]
            stream = Stream(self._client.exec_start(execution, socket=True), job.most)
            stream.send(_payload(job, word, secret.given), _PREPARE)
            prepared = stream.read(time.monotonic() + _PREPARE, until=f"{word} begin".encode())
            started = time.monotonic()
            if follow is not None:
                printed = stream.output
                follow(lambda: printed.text)
            ended = prepared and stream.read(started + job.timeout)
            seconds = time.monotonic() - started
        except docker_engine.TROUBLE as error:
            raise Broken(f"the Docker daemon failed: {docker_trouble.said(error)}") from error
        finally:
            if stream is not None:
                stream.close()
        self.served += 1
        _check_begun(stream, word)
        result = Execution(
            ending=Ending.TIMED_OUT, output=stream.output.text, truncated=stream.output.truncated, seconds=seconds
        )
        lines = stream.report.text.splitlines()
        whole = not (stream.report.truncated and job.changes)
        proof = proof_of(lines, secret, whole=whole) if job.runner else None
        if job.runner and not stream.report.truncated:
            result = result.model_copy(update={"results": results_of(lines, secret.key, ended=proof is not None)})
        if stream.output.flooded:
            flood = f"{result.output}\n[stopped: it wrote more than {output.FLOOD >> 20} MB]"
            return result.model_copy(update={"ending": Ending.KILLED, "output": flood}), False
        if not ended:
            return result, False
        try:
            status = self.exit_code(execution)
            if status == _KILLED and not self._answers():
                raise Broken("the container ended with the job", result.model_copy(update={"ending": Ending.KILLED}))
            judged, clean = self._judge(job, result, status, proof, began(lines, secret.key))
            why = withdrawn(lines, secret.key) if judged.ending is Ending.CUT_SHORT else ""
            return judged.model_copy(update={"unproven": why}), clean and not self._beside.services
        except docker_engine.TROUBLE as error:
            raise self._ended_with(result, error) from error

    def _judge(
        self, job: Prepared, result: Execution, status: int, proof: str | None, runner_began: bool
    ) -> tuple[Execution, bool]:
        """What the host saw of a job that ended by itself. Raises what the SDK raises."""
        after = self._look()
        if after.tasks > self._at_rest:
            time.sleep(0.1)  # what has just ended may not have been reaped
            after = self._look()
        alone = after.tasks <= self._at_rest
        before, self._seen = self._seen, after
        exit_code: int | None = None
        if after.memory_kills > before.memory_kills:
            ending = Ending.OUT_OF_MEMORY
        elif 128 < status <= _LAST_SIGNAL and proof != str(status):
            ending, exit_code = Ending.KILLED, status  # 137 or 143 are not our `timeout`, which our own clock precedes
        else:
            ending, exit_code = judge_exit(status, proof, proves=job.runner, began=runner_began)
        execution = result.model_copy(update={"ending": ending, "exit_code": exit_code})
        return execution, alone and ending not in (Ending.OUT_OF_MEMORY, Ending.KILLED)

    def exit_code(self, execution: str) -> int:
        """As the daemon has it. Raises what the SDK raises."""
        deadline = time.monotonic() + _SETTLE
        while True:
            found = self._client.exec_inspect(execution)
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            if time.monotonic() > deadline:
                raise docker.errors.DockerException("the daemon does not say how the job ended")
            time.sleep(0.01)

    def _answers(self) -> bool:
        """Whether a command still runs in it. Raises what the SDK raises."""
        execution = self._client.exec_create(self.id, ["true"], user=self.user)["Id"]
        self._client.exec_start(execution)
        return self.exit_code(execution) == 0

    def _look(self) -> "Seen":
        """What the control group counts, read by a user whom no job can touch. Raises what the SDK raises.

        Its count of tasks misses nothing; a list of processes would miss one that is born anew all the time.
        """
        words = " ".join(_contents(self._counts)).split() or self._counted().split()
        tasks = int(words[0]) if words and words[0].isdigit() else len(self._client.top(self.id)["Processes"])
        return Seen(tasks, int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0)

    def _counted(self) -> str:
        """What the container reads of its group. Raises what the SDK raises.

        It prints only once it is written to: the SDK loses what arrives with the head of the answer, as it does where
        the daemon is far away and the command quick.
        """
        argv = ["sh", "-c", 'read -r go; exec cat "$@"', "sh", *_COUNTS]
        execution = self._client.exec_create(self.id, argv, stdin=True, stderr=False, user="0:0")["Id"]
        stream = Stream(self._client.exec_start(execution, socket=True), _COUNTED_BYTES)
        try:
            stream.send(b"\n", _SETTLE)
            stream.read(time.monotonic() + _SETTLE)
            return stream.output.text
        finally:
            stream.close()

    def _ended_with(self, result: Execution, trouble: Exception) -> Broken:
        """What to say of a job after which the daemon knows nothing of its container, or no longer answers."""
        try:
            state: dict[str, Any] = self._client.inspect_container(self.id)["State"]
        except docker_engine.TROUBLE as error:
            return Broken(f"the container vanished: {docker_trouble.said(error)}")
        if state["Running"]:
            return Broken(f"the Docker daemon failed: {docker_trouble.said(trouble)}")
        ending = Ending.OUT_OF_MEMORY if state["OOMKilled"] else Ending.KILLED
        return Broken("the container ended with the job", result.model_copy(update={"ending": ending}))


def _counts_here(pid: int, container: str) -> list[Path]:
    """Files of the container's control group, as of `_COUNTS`, if it is on this machine; else none.

    The daemon may be elsewhere, or we in a container: then the process of that number is another's.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: dict[str, Path] = {}
    for _, controllers, path in (line.split(":", 2) for line in lines):
        for name, (new, old) in _COUNTED.items():
            if container in path and name in controllers.split(","):
                found[name] = Path(f"/sys/fs/cgroup/{controllers}{path}", old)
            elif container in path and not controllers:
                found.setdefault(name, Path(f"/sys/fs/cgroup{path}", new))
    return [found[name] for name in _COUNTED if name in found]


def _contents(paths: Iterable[Path]) -> list[str]:
    """What the files hold; nothing where one can't be read."""
    try:
        return [path.read_text() for path in paths]
    except OSError:
        return []


def host_options(settings: SandboxSettings, services: Sequence[Service] = (), user: str = "") -> dict[str, Any]:
    """The options of every container that runs a job, as `create_host_config` takes them. `user`: the job's."""
    options: dict[str, Any] = {
        "network_mode": "none",  # not `network_disabled` as well: /etc/hosts would lack `localhost`
        "dns": ["127.0.0.1"],  # not this machine's, which is nobody's business
        "dns_search": ["."],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": "size=512m,mode=1777", "/repo": "size=1g,exec"},  # noqa: S108 - inside
        "pids_limit": settings.pids,
        "mem_limit": settings.memory,
        "memswap_limit": settings.memory,
        "nano_cpus": int(settings.processors * 1e9),
        "ulimits": [
            Ulimit(name="nofile", soft=4096, hard=4096),
            Ulimit(name="fsize", soft=1 << 30, hard=1 << 30),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "init": True,
        "ipc_mode": "private",
        "log_config": LogConfig(type="none"),
    }
    if services:
        options["tmpfs"] |= dict.fromkeys((servers.PLACE, *servers.SOCKETS), "size=1g")
        owner = "uid={},gid={}".format(*user.split(":"))  # the mode is of the image's folders, whatever is said here
        options["tmpfs"] |= {"/tmp": f"size=512m,{owner}", "/repo": f"size=1g,exec,{owner}"}  # noqa: S108 - inside
        options["extra_hosts"] = dict.fromkeys(servers.hosts(services), "127.0.0.1")
    if settings.runtime:
        options["runtime"] = settings.runtime
    return options


def _payload(job: Prepared, word: str, nonce: str) -> bytes:
    """The input of `job.sh`: a word of the host's, what the runner is to know, paths to remove, files to unpack."""
    paths = [change.path for change in job.changes]  # removed first, so that a link is replaced, not followed
    header = "\n".join([word, nonce, str(len(paths)), *paths]) + "\n"
    changed = "".join(f"/repo/tree/{path}\t{job.marks.get(path, '')}\n" for path in paths)
    members = [
        ("test/.changed", changed.encode("utf-8", "surrogateescape"), 0o444),
        *((name, text.encode("utf-8", "surrogateescape"), 0o555) for name, text in job.files),
        *(
            (
                f"tree/{change.path}",
                content,
                0o755 if change.executable else 0o644,
            )
            for change in job.changes
            if (content := change.content) is not None
        ),
    ]
    return header.encode("utf-8", "surrogateescape") + docker_engine.archive(members)


def _check_begun(stream: Stream, word: str) -> None:
    """Raise `Dirty` or `Broken` if the command could not begin."""
    for line in stream.report.text.splitlines():
        first, _, rest = line.partition(" ")
        if first == word:
            what, _, value = rest.partition(" ")
            if what == "begin":
                return
            raise (Dirty if what == "dirty" else Broken)(f"the container could not prepare the job: {value}")
    raise Broken(f"the container could not prepare the job: {stream.output.text[-300:].strip() or 'no answer'}")
