"""The process sandbox: for local use, on a machine without Docker. As strong as the kernel lets it be.

Where namespaces can be had (as root, or where users may make them), a job sees no network, no other process, no home
folder, no /run, and a read-only file system but for its own copy of the tree and its own /tmp; see `bot.sandbox.jail`.
It still shares the kernel and whatever else of the file system its user may read: strangers' issues belong in Docker.
"""

import asyncio
import contextlib
import enum
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bot.errors import SandboxError
from bot.records import Ending, Execution, Job
from bot.sandbox import commands, judges, output, tree
from bot.sandbox.limits import ControlGroup, parse_size
from bot.sandbox.outcome import judge_exit
from bot.sandbox.pythons import Python, find_python
from bot.settings import SandboxSettings

_HERE = Path(__file__).parent
_RUNNER = (_HERE / "runner.py").read_text()
_DISK = 1 << 30  # bytes that a job may write into its tree, into /tmp, or into one file
_GRACE = 5.0  # seconds from the end of a job's time until everything of it must be gone


class Isolation(enum.StrEnum):
    """How far the kernel lets us go, strongest first; the values are the modes of `bot.sandbox.jail`."""

    OVERLAY = "overlay"  # namespaces, and the tree as an overlay
    COPY = "copy"  # namespaces, and the tree as a copy
    PLAIN = "plain"  # an ordinary process


class _Slot:
    """What one job at a time uses."""

    def __init__(self, folder: Path, group: ControlGroup | None) -> None:
        self.folder = folder
        self.group = group
        for name in ("layers", "tmp", "home", "run", "dev"):
            (folder / name).mkdir(parents=True)


class ProcessSandbox:
    """Runs jobs as processes. Open it with `ProcessSandbox.open`; blocking work is done in threads."""

    def __init__(
        self, settings: SandboxSettings, folder: Path, python: Python, path: str, scripts: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.isolation = Isolation.PLAIN
        self._settings = settings
        self._folder = folder
        self._base = folder / "base"
        self._python = python
        self._path = path
        self._scripts = scripts
        self._memory = parse_size(settings.memory)
        self._slots: asyncio.Queue[_Slot] = asyncio.Queue()
        self._groups: list[ControlGroup] = []
        self._running: set[asyncio.subprocess.Process] = set()
        self._closed = False
        home = os.path.realpath(os.path.expanduser("~"))
        self._home = home if home != "/" and os.path.isdir(home) else ""
        self._keep = python.needs(path, self._home)

    @classmethod
    async def open(
        cls, settings: SandboxSettings, source: Path, *, scripts: Mapping[str, tuple[str, ...]] | None = None
    ) -> "ProcessSandbox":
        """Copy the tree and find out how far the kernel lets us go. Raises `SandboxError`."""
        folder = Path(tempfile.mkdtemp(prefix="troop-sandbox-"))
        try:
            await asyncio.to_thread(tree.copy_tree, source, folder / "base")
            python, path = await asyncio.to_thread(find_python, source)
            self = cls(settings, folder, python, path, scripts or {})
            for number in range(settings.concurrency or os.cpu_count() or 1):
                self._slots.put_nowait(_Slot(folder / f"slot-{number}", self._control_group(number)))
            await self._probe()
        except OSError as error:
            tree.remove_tree(folder)
            raise SandboxError(f"the process sandbox can't be set up: {error}") from error
        except BaseException:
            tree.remove_tree(folder)
            raise
        return self

    def _control_group(self, number: int) -> ControlGroup | None:
        with contextlib.suppress(OSError):
            group = ControlGroup(f"{self._folder.name}-{number}", self._memory, self._settings.pids)
            self._groups.append(group)
            return group
        return None

    async def _probe(self) -> None:
        """Take the strongest isolation in which a job that needs what jobs need succeeds."""
        check = "set -e; mkdir troop-probe; rmdir troop-probe; test -w . ; python3 -c 'import os, socket'"
        reasons = []
        for self.isolation in Isolation:
            try:
                result = await self.run(Job(command=("sh", "-c", check), timeout=20))
            except SandboxError as error:
                reasons.append(f"{self.isolation.value}: {error}")
                continue
            if result.passed:
                return
            reasons.append(f"{self.isolation.value}: {result.status} {result.tail(2, 200)}")
        raise SandboxError("no process can be run here: " + "; ".join(reasons))

    @property
    def limits_processes(self) -> bool:
        """Whether a fork bomb is held: by a control group, or by a limit that counts the job's processes only."""
        return bool(self._groups) or (self.isolation is not Isolation.PLAIN and os.geteuid() != 0)

    async def run(self, job: Job) -> Execution:
        """One job on a fresh copy of the tree. Raises `SandboxError` where the sandbox itself failed."""
        reason = tree.refused(self._base, job.changes)
        if reason:
            return Execution(ending=Ending.UNAVAILABLE, output=f"refused: {reason}")
        slot = await self._slots.get()
        try:
            return await self._run(job, slot)
        finally:
            self._slots.put_nowait(slot)

    def _describe(self, job: Job, slot: _Slot) -> dict[str, object] | None:
        """The job as `bot.sandbox.jail` reads it, or None where no one knows how to start its script."""
        plain = self.isolation is Isolation.PLAIN
        root = str(slot.folder / f"job-{secrets.token_hex(4)}") if plain else "/tmp/troop"  # noqa: S108
        changes = judges.trusted(job.changes, lambda path: tree.exists_in(self._base, path))
        import_path = tree.python_path(self._base, f"{root}/repo")
        temporary = f"{root}/tmp" if plain else "/tmp"  # noqa: S108
        environment = {
            "PATH": self._path,
            "HOME": temporary,
            "TMPDIR": temporary,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }
        argv, nonce, script = job.command, "", None
        if job.test is not None:
            script = (commands.script_name(job.test), job.test.text)
            place = f"{root}/test/{script[0]}"
            argv = commands.script_command(job.test, place, self._scripts)
            python = commands.python_of(argv, place)
            if python:
                nonce = secrets.token_hex(16)
                runner = f"{root}/test/.runner.py"
                argv = (python, runner, "{report}", f"{root}/test/.changed", import_path, place)
        if not argv:
            return None
        if argv[0] in ("python3", "python"):
            argv = (self._python.executable, *argv[1:])
        if not nonce:  # the runner sets it itself, since nothing of the tree may be imported before it
            environment["PYTHONPATH"] = import_path
        return {
            "mode": self.isolation.value,
            "root": root,
            "base": str(self._base),
            "stages": str(slot.folder),
            "home": self._home,
            "keep": self._keep,
            "changes": [change.model_dump() for change in changes],
            "script": script,
            "runner": _RUNNER,
            "argv": argv,
            "environment": environment,
            "nonce": nonce,
            "secret": secrets.token_hex(16),
            "memory": self._memory,
            "disk": _DISK,
            "pids": self._settings.pids,
            "count_processes": not plain and os.geteuid() != 0,
            "control_groups": slot.group.join_files if slot.group else [],
        }

    async def _run(self, job: Job, slot: _Slot) -> Execution:
        described = self._describe(job, slot)
        if described is None:
            ending = job.test.path if job.test else "(nothing)"
            said = f"no command is known for {ending}: give it a shebang, or name one under `scripts`"
            return Execution(ending=Ending.UNAVAILABLE, output=said)
        memory_kills = slot.group.memory_kills if slot.group else 0
        read, write = os.pipe()
        started = time.monotonic()
        try:
            described["argv"] = [part.replace("{report}", str(write)) for part in described["argv"]]  # type: ignore[attr-defined]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_HERE / "jail.py"), str(write),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write,), start_new_session=True, cwd="/", env={}, limit=1 << 20,
            )  # fmt: skip
        finally:
            os.close(write)
        self._running.add(process)
        captured = output.Capped(self._settings.output_limit)
        timed_out = False
        try:
            try:
                async with asyncio.timeout(job.timeout):
                    await self._read(process, json.dumps(described).encode(), captured)
            except TimeoutError:
                timed_out = True
            flooded = captured.flooded
        finally:
            await asyncio.shield(self._end(process))
            self._running.discard(process)
            report = await asyncio.to_thread(_drain, read)
            if self.isolation is Isolation.PLAIN:
                await asyncio.to_thread(tree.remove_tree, Path(str(described["root"])))
        if self._closed:
            raise SandboxError("the sandbox was closed while a job ran")
        execution = Execution(
            ending=Ending.TIMED_OUT,
            output=captured.text,
            truncated=captured.truncated,
            seconds=time.monotonic() - started,
        )
        if timed_out:
            return execution
        if flooded:
            said = f"{captured.text}\n[stopped: it wrote more than {output.FLOOD >> 20} MB]"
            return execution.model_copy(update={"ending": Ending.KILLED, "output": said})
        out_of_memory = bool(slot.group and slot.group.memory_kills > memory_kills)
        ending, code = read_report(report, str(described["secret"]), str(described["nonce"]), out_of_memory)
        return execution.model_copy(update={"ending": ending, "exit_code": code})

    @staticmethod
    async def _read(process: asyncio.subprocess.Process, job: bytes, captured: output.Capped) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(job)
            await process.stdin.drain()
        process.stdin.close()
        while data := await process.stdout.read(1 << 16):
            captured.add(data)
            if captured.flooded:
                return
        await process.wait()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Make sure that nothing of the job is left. In namespaces, the kernel does it when the first process dies."""
        assert process.stdout is not None
        # Unread output would keep asyncio from noticing the end.
        discard = asyncio.create_task(_discard(process.stdout))
        if process.returncode is None:
            if self.isolation is Isolation.PLAIN:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()  # it ends what descends from it, then itself
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GRACE):
                        await process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        discard.cancel()
        transport = process._transport  # type: ignore[attr-defined] # closes the pipes; there is no public way
        transport.close()

    async def close(self) -> None:
        """End running jobs and remove every copy. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for process in list(self._running):
            await self._end(process)
        for group in self._groups:
            group.close()
        await asyncio.to_thread(tree.remove_tree, self._folder)


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


def _drain(descriptor: int) -> bytes:
    """What was reported: at most 64 KiB, without waiting for a writer that still lives."""
    os.set_blocking(descriptor, False)
    parts = b""
    with contextlib.suppress(BlockingIOError):
        while len(parts) < 1 << 16 and (part := os.read(descriptor, 1 << 16)):
            parts += part
    os.close(descriptor)
    return parts


def read_report(report: bytes, secret: str, nonce: str, out_of_memory: bool) -> tuple[Ending, int | None]:
    """What the lines of the report come to. Raises `SandboxError` where the jail itself failed.

    `nonce` is empty where there was no runner; lines that begin with neither word are forged and count for nothing.
    """
    said: dict[str, str] = {}
    for line in report.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word in (secret, nonce):
            said.setdefault("proof" if word == nonce else "jail", rest)
    word, _, rest = said.get("jail", "").partition(" ")
    if word == "broken":
        raise SandboxError(f"the job could not be started: {rest}")
    if word == "unavailable":
        return Ending.UNAVAILABLE, int(rest)
    if out_of_memory:
        return Ending.OUT_OF_MEMORY, None
    if word != "status":
        return Ending.KILLED, None
    status = os.waitstatus_to_exitcode(int(rest))
    if status < 0:
        return Ending.KILLED, 128 - status
    return judge_exit(status, said.get("proof"), proves=bool(nonce))
