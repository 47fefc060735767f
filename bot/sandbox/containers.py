"""One container that serves one job after another, and the bytes of a `docker exec`. Blocking: used from threads."""

import secrets
import time
from typing import Any

import docker
import docker.errors
from docker.types import LogConfig, Ulimit

from bot.records import Ending, Execution, FileChange, Record
from bot.sandbox import docker_engine, output
from bot.sandbox.exec_stream import Stream
from bot.sandbox.images import ROOT
from bot.sandbox.outcome import judge_exit
from bot.settings import SandboxSettings

LIFETIME = 3600.0  # seconds after which a container takes no new job
_SLACK = 3600.0  # seconds more until a sweep may take it for an orphan
_PREPARE = 120.0  # seconds that cleaning and copying the tree may take
USER = "10001:10001"


class Broken(Exception):
    """The container, or the daemon, failed, perhaps not for the job's doing; worth another try on a new container.

    `execution` is what to believe of the job where it happens again while the daemon is well.
    """

    def __init__(self, message: str, execution: Execution | None = None) -> None:
        super().__init__(message)
        self.execution = execution


class Prepared(Record):
    """A job as `job.sh` takes it."""

    runner: bool
    argv: tuple[str, ...]
    environment: dict[str, str]
    changes: tuple[FileChange, ...]
    files: tuple[tuple[str, str], ...]  # name and text, below /repo/test
    timeout: float


class Container:
    """A running container of the tree image. One job at a time."""

    def __init__(self, client: docker.APIClient, image_id: str, settings: SandboxSettings, run: str) -> None:
        """Start it. Raises what the SDK raises."""
        self._client = client
        self._settings = settings
        self.started = time.monotonic()
        self.id: str = client.create_container(
            image_id,
            entrypoint=["sleep"],
            command=[str(int(LIFETIME + _SLACK))],  # ends by itself, should nobody be left to end it
            user=USER,
            environment={},
            labels={**docker_engine.labels("sandbox", LIFETIME + _SLACK), docker_engine.RUN: run},
            network_disabled=True,
            host_config=client.create_host_config(**host_options(settings)),
        )["Id"]
        try:
            client.start(self.id)
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Kill and remove it, and so end a `run` under way."""
        docker_engine.destroy(self._client, self.id)

    def run(self, job: Prepared) -> tuple[Execution, bool]:
        """The job's execution, and whether the container may serve another. Raises `Broken`."""
        secret, nonce = secrets.token_hex(16), secrets.token_hex(16)
        limit = str(int(job.timeout + 15))  # our own clock rules; this one is for a daemon that we lost
        argv = ["sh", f"{ROOT}/job.sh", limit, "runner" if job.runner else "plain", *job.argv]
        stream: Stream | None = None
        try:
            execution = self._client.exec_create(self.id, argv, stdin=True, environment=job.environment)["Id"]
            stream = Stream(self._client.exec_start(execution, socket=True), self._settings.output_limit)
            stream.send(_payload(job, secret, nonce), _PREPARE)
            began = stream.read(time.monotonic() + _PREPARE, until=f"{secret} begin".encode())
            started = time.monotonic()
            ended = began and stream.read(started + job.timeout)
        except docker_engine.TROUBLE as error:
            raise Broken(f"the Docker daemon failed: {error}") from error
        finally:
            if stream is not None:
                stream.close()
        return self._judge(job, stream, _report(stream.report.text, secret, nonce), ended, time.monotonic() - started)

    def _judge(
        self, job: Prepared, stream: Stream, said: dict[str, str], ended: bool, seconds: float
    ) -> tuple[Execution, bool]:
        if "broken" in said or not ("begin" in said or "status" in said):
            what = said.get("broken") or stream.output.text[-300:].strip() or "no answer"
            raise Broken(f"the container could not prepare the job: {what}")
        result = Execution(
            ending=Ending.TIMED_OUT, output=stream.output.text, truncated=stream.output.truncated, seconds=seconds
        )
        if stream.output.flooded:
            flood = f"{result.output}\n[stopped: it wrote more than {output.FLOOD >> 20} MB]"
            return result.model_copy(update={"ending": Ending.KILLED, "output": flood}), False
        if not ended:
            return result, False
        if "status" not in said:
            return self._without_status(result), False
        status, processes, kills = map(int, said["status"].split())
        exit_code: int | None = None
        if kills > 0:
            ending = Ending.OUT_OF_MEMORY
        elif status > 128 and said.get("proof") != str(status):
            ending, exit_code = Ending.KILLED, status  # 137 or 143 are not our `timeout`, which our own clock precedes
        else:
            ending, exit_code = judge_exit(status, said.get("proof"), proves=job.runner)
        execution = result.model_copy(update={"ending": ending, "exit_code": exit_code})
        return execution, processes == 0 and ending not in (Ending.OUT_OF_MEMORY, Ending.KILLED)

    def _without_status(self, result: Execution) -> Execution:
        """How a job ended that took `job.sh` with it. Raises `Broken` where it may have been the daemon."""
        try:
            state: dict[str, Any] = self._client.inspect_container(self.id)["State"]
            lives = state["Running"] and self._answers()
        except docker_engine.TROUBLE as error:
            raise Broken(f"the container vanished: {error}") from error
        execution = result.model_copy(update={"ending": Ending.OUT_OF_MEMORY if state["OOMKilled"] else Ending.KILLED})
        if not lives:
            raise Broken("the container ended with the job", execution)
        return execution

    def _answers(self) -> bool:
        """Whether a command still runs in it. Raises what the SDK raises where the daemon is the trouble."""
        try:
            execution = self._client.exec_create(self.id, ["true"])["Id"]
            self._client.exec_start(execution)
            return bool(self._client.exec_inspect(execution)["ExitCode"] == 0)
        except docker.errors.APIError:  # it has ended, or is about to
            return False


def host_options(settings: SandboxSettings) -> dict[str, Any]:
    """The options of every container that runs a job, as `create_host_config` takes them."""
    options: dict[str, Any] = {
        "network_mode": "none",
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
    if settings.runtime:
        options["runtime"] = settings.runtime
    return options


def _payload(job: Prepared, secret: str, nonce: str) -> bytes:
    """What `job.sh` reads: two words, the paths to remove, the files to unpack."""
    paths = [change.path for change in job.changes]  # all are removed first: a link is replaced, not followed
    header = "\n".join([secret, nonce, str(len(paths)), *paths]) + "\n"
    changed = "".join(f"/repo/tree/{path}\n" for path in paths)
    members = [
        ("test/.changed", changed.encode("utf-8", "surrogateescape"), 0o444),
        *((f"test/{name}", text.encode("utf-8", "surrogateescape"), 0o555) for name, text in job.files),
        *(
            (
                f"tree/{change.path}",
                change.text.encode("utf-8", "surrogateescape"),
                0o755 if change.executable else 0o644,
            )
            for change in job.changes
            if change.text is not None
        ),
    ]
    return header.encode("utf-8", "surrogateescape") + docker_engine.archive(members)


def _report(text: str, secret: str, nonce: str) -> dict[str, str]:
    """The report by word, with the runner's line under `proof`. Lines that begin otherwise are forged or noise."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if first == nonce:
            said.setdefault("proof", rest)
        elif first == secret:
            word, _, value = rest.partition(" ")
            said.setdefault(word, value)
    return said
