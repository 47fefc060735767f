"""The process sandbox: for local use, on a machine without Docker. As isolated as the kernel allows.

With namespaces (as root, or where users may create them), a job sees no network, no other process, no home folder, no
/run, and a read-only file system except for its copy of the tree and its own /tmp; see `bot.sandbox.jail`. It shares
the kernel and can read other files that its user may read: for strangers' issues use Docker.
"""

import asyncio
import contextlib
import enum
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.contracts import Follow
from bot.errors import SandboxError
from bot.recipe import NO_RECIPE, Recipe
from bot.records import Ending, Environment, Execution, SandboxJob
from bot.sandbox import inside, output, script_command, tree
from bot.sandbox import services as servers
from bot.sandbox.doubted import believed, doubted
from bot.sandbox.helper import Helper, Running
from bot.sandbox.limits import ControlGroup
from bot.sandbox.outcome import Words, judge_exit, proof_of, results_of, withdrawn, words
from bot.sandbox.placing import Placed, placed
from bot.sandbox.pythons import WATCHED, Python, find_python
from bot.scratch import ScratchFolder, remove_tree
from bot.settings import SandboxSettings

_TOLD = "/tmp/troop/services/told"  # noqa: S108 - inside
_DISK = 1 << 30  # bytes that a job may write into its tree, into /tmp, or into one file


class Isolation(enum.StrEnum):
    """How far the kernel isolates jobs, strongest first; the values are the modes of `bot.sandbox.jail`."""

    OVERLAY = "overlay"  # namespaces, and the tree as an overlay
    COPY = "copy"  # namespaces, and the tree as a copy
    PLAIN = "plain"  # an ordinary process


class _Slot:
    """Folders and control group of one job at a time."""

    def __init__(self, folder: Path, group: ControlGroup | None) -> None:
        self.folder = folder
        self.group = group
        for name in ("layers", "tmp", "home", "run", "dev"):
            (folder / name).mkdir(parents=True)


class ProcessSandbox:
    """Runs jobs as processes. Open it with `ProcessSandbox.open`; blocking work is done in threads."""

    def __init__(
        self,
        settings: SandboxSettings,
        scratch: ScratchFolder,
        python: Python,
        path: str,
        scripts: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.isolation = Isolation.PLAIN
        self.environment = Environment(sandbox="process")
        self._settings = settings
        self._scratch = scratch
        self._base = scratch.path / "base"
        self._roots: tuple[str, ...] = ("",)
        self._python = python
        self.early = python.version < WATCHED
        self._path = path
        self._scripts = scripts
        self._memory = settings.memory
        self._helper = Helper()
        self._slots: asyncio.Queue[_Slot] = asyncio.Queue()
        self._groups: list[ControlGroup] = []
        self._running: set[Running] = set()
        self._closed = False
        self.servers = ""  # that tests find beside them, in words
        self._beside = servers.NONE
        self._variables: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        home = os.path.realpath(os.path.expanduser("~"))
        self._home = home if home != "/" and os.path.isdir(home) else ""
        self._keep = python.needs(path, self._home)

    @classmethod
    async def open(
        cls,
        settings: SandboxSettings,
        source: Path,
        *,
        scripts: Mapping[str, tuple[str, ...]] | None = None,
        recipe: Recipe = NO_RECIPE,
        venv_of: Path | None = None,
    ) -> "ProcessSandbox":
        """Copy the tree and find the strongest isolation that works. Raises `SandboxError`. `recipe`: for its servers
        and variables.

        `venv_of`: the folder whose `.venv` jobs use, where that is not `source`.
        """
        scratch = await ScratchFolder.fresh()
        self: ProcessSandbox | None = None
        try:
            await asyncio.to_thread(tree.copy_tree, source, scratch.path / "base")
            python, path = await asyncio.to_thread(find_python, venv_of or source)
            self = cls(settings, scratch, python, path, scripts or {})
            self._roots = await asyncio.to_thread(tree.roots_of, scratch.path / "base")
            for number in range(settings.concurrency or os.cpu_count() or 1):
                self._slots.put_nowait(_Slot(scratch.path / f"slot-{number}", self._control_group(number)))
            await self._probe()
            await self._serve(recipe)
        except BaseException as error:
            if self is not None:
                await self.close()
            scratch.close()
            if isinstance(error, OSError):
                raise SandboxError(f"the process sandbox can't be set up: {error}") from error
            raise
        return self

    def _control_group(self, number: int) -> ControlGroup | None:
        with contextlib.suppress(OSError):
            group = ControlGroup(f"{self._scratch.path.name}-{number}", self._memory, self._settings.pids)
            self._groups.append(group)
            return group
        return None

    async def _probe(self) -> None:
        """Choose the strongest isolation in which a typical job succeeds."""
        folders = [entry.name for entry in self._base.iterdir() if entry.is_dir() and not entry.is_symlink()]
        # On some kernels an overlay can't recreate a folder that the base has.
        check = (
            'set -e; mkdir troop-probe; rmdir troop-probe; python3 -c "import os, socket"; '
            'for d in "$@"; do rm -r "$d"; mkdir "$d"; rmdir "$d"; done'
        )
        reasons = []
        for self.isolation in Isolation:
            try:
                result = await self.run(SandboxJob(command=("sh", "-c", check, "sh", *folders[:1]), timeout=20))
            except SandboxError as error:
                reasons.append(f"{self.isolation.value}: {error}")
                continue
            if result.passed:
                return
            reasons.append(f"{self.isolation.value}: {result.status} {result.tail(2, 200)}")
        raise SandboxError("no process can be run here: " + "; ".join(reasons))

    async def _serve(self, recipe: Recipe) -> None:
        """Find out which of the servers that tests need can be started; the others are not tried again."""
        self._variables = recipe.variables
        if not recipe.services:
            return
        if self.isolation is Isolation.PLAIN:
            kinds = ", ".join(one.kind for one in recipe.services)
            self.notes = (f"{kinds}: not beside tests, since without namespaces it would be on this machine's ports",)
            return
        self._beside = servers.Beside(recipe.services)
        told = servers.told(recipe.services, (await self.run(SandboxJob(command=("cat", _TOLD), timeout=60))).output)
        self._beside = servers.Beside(told.running, surely=True)
        self.notes = told.notes
        self.environment = self.environment.model_copy(update={"services": told.versions})
        self.servers = servers.in_words(told.running, told.versions, tuple(recipe.variables))

    @property
    def limits_processes(self) -> bool:
        """Whether a fork bomb is stopped: by a control group, or by a limit that counts only the job's processes."""
        return bool(self._groups) or (self.isolation is not Isolation.PLAIN and os.geteuid() != 0)

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        """One job on a fresh copy of the tree. Raises `SandboxError` where the sandbox itself failed."""
        reason = tree.refused(self._base, job.changes)
        if reason:
            return Execution(ending=Ending.UNAVAILABLE, output=f"refused: {reason}")
        slot = await self._slots.get()
        try:
            place = placed(job, self._scripts, self._base)
            found = await self._run(place, slot, follow)
            for again, code in doubted(place.job, place.scripts) if found.passed else ():
                if found.passed:
                    found = believed(found, await self._run(place._replace(job=again), slot, again=True), code)
            return found
        finally:
            self._slots.put_nowait(slot)

    def _describe(self, placed: Placed, slot: _Slot, again: bool) -> dict[str, object] | None:
        """The job as `bot.sandbox.jail` reads it, or None where no command for its script is known."""
        job = placed.job
        plain = self.isolation is Isolation.PLAIN
        root = str(slot.folder / f"job-{secrets.token_hex(4)}") if plain else "/tmp/troop"  # noqa: S108
        changes = tree.trusted(self._base, job.changes)
        import_path = tree.python_path(self._roots, f"{root}/repo")
        temporary = f"{root}/tmp" if plain else "/tmp"  # noqa: S108
        environment = script_command.ENVIRONMENT | {"PATH": self._path, "HOME": temporary, "TMPDIR": temporary}
        argv, secret, script, place = job.command, Words("", ""), None, ""
        if job.test is not None:
            script = (placed.script("repo", "test"), job.test.text)
            if not argv:
                place = f"{root}/{script[0]}"
                script = (script[0], script_command.placed(script[1], place, f"{root}/test/."))
                argv = script_command.script_command(job.test, place, placed.scripts)
        named, argv = script_command.split_environment(argv)
        import_path = script_command.joined_path(named.pop("PYTHONPATH", ""), import_path, f"{root}/repo")
        environment |= self._variables | named
        if provable := script_command.provable(argv, place, early=self.early):
            secret = words()
            beside = f"{root}/test"
            runner = f"{beside}/.{provable.runner}"
            argv = (*provable.interpreter, runner, "{report}", f"{beside}/.changed", import_path, *provable.arguments)
        if not argv:
            return None
        if argv[0] in ("python3", "python"):
            argv = (self._python.executable, *argv[1:])
        if not secret.nonce:  # the runner sets it, since nothing of the tree may be imported before
            environment["PYTHONPATH"] = import_path
        return {
            "mode": self.isolation.value,
            "root": root,
            "base": str(self._base),
            "stages": str(slot.folder),
            "home": self._home,
            "keep": self._keep,
            "changes": [change.model_dump() for change in changes],
            "marks": tree.marks_of(self._base, changes),
            "script": script,
            "removes_script": again or (provable is not None and provable.runner == "runner.cjs"),
            "inside": self._inside(provable.runner, f"{root}/test/.") if provable else {},
            "argv": argv,
            "environment": environment,
            "nonce": secret.given,
            "words": tuple(secret),
            "secret": secrets.token_hex(16),
            "memory": self._memory,
            "disk": _DISK,
            "pids": self._settings.pids,
            "count_processes": not plain and os.geteuid() != 0,
            "control_groups": slot.group.join_files if slot.group else [],
            "services": servers.command(self._beside, f"{root}/services") if self._beside.services else (),
            "hosts": servers.hosts(self._beside.services),
            "nobody": servers.USER,
        }

    def _inside(self, runner: str, place: str) -> Mapping[str, str]:
        """What proves the end of a job, whose paths begin with `place`; see `bot.sandbox.inside`."""
        # Without isolation each job's folder has another name, and each would be compiled for anew.
        if runner != "runner.py" or self._python.magic != inside.MAGIC or self.isolation is Isolation.PLAIN:
            return inside.FILES
        return inside.FILES | inside.compiled(place)

    async def _run(
        self, placed: Placed, slot: _Slot, follow: Follow | None = None, *, again: bool = False
    ) -> Execution:
        """`again`: the script is doubted, and removes itself so that nobody reads it."""
        job, described = placed.job, self._describe(placed, slot, again)
        if described is None:
            ending = job.test.path if job.test else "(nothing)"
            said = f"no command is known for {ending}: give it a shebang, or name one under `scripts`"
            return Execution(ending=Ending.UNAVAILABLE, output=said)
        memory_kills = slot.group.memory_kills if slot.group else 0
        captured = output.Capped(self._settings.output_limit * (output.OF_COMMAND if job.command else 1))
        started = time.monotonic()
        running = self._helper.submit(described)
        self._running.add(running)
        timed_out = False
        try:
            await running.start(captured)
            if follow is not None:
                follow(lambda: captured.text)
            try:
                if self._beside.services:
                    async with asyncio.timeout(servers.STARTING):
                        await running.told()
                async with asyncio.timeout(job.timeout):
                    await running.read()
            except TimeoutError:
                timed_out = True
            flooded = captured.flooded
        finally:
            await asyncio.shield(running.end())
            self._running.discard(running)
            if self.isolation is Isolation.PLAIN:
                await asyncio.to_thread(remove_tree, Path(str(described["root"])))
        if self._closed:
            raise SandboxError("the sandbox was closed while a job ran")
        execution = Execution(
            ending=Ending.TIMED_OUT,
            output=captured.text,
            truncated=captured.truncated,
            seconds=time.monotonic() - started,
        )
        secret = Words(*described["words"])  # type: ignore[misc]
        lines = running.report.text.splitlines()
        whole = not (running.report.truncated and job.changes)
        proof = proof_of(lines, secret, whole=whole)
        results = results_of(lines, secret.key, ended=proof is not None) if not running.report.truncated else None
        execution = execution.model_copy(update={"results": results})
        if timed_out:
            return execution
        if flooded:
            said = f"{captured.text}\n[stopped: it wrote more than {output.FLOOD >> 20} MB]"
            return execution.model_copy(update={"ending": Ending.KILLED, "output": said})
        out_of_memory = bool(slot.group and slot.group.memory_kills > memory_kills)
        ending, code = read_report(lines, str(described["secret"]), secret, proof, out_of_memory)
        why = withdrawn(lines, secret.key) if ending is Ending.CUT_SHORT else ""
        return execution.model_copy(update={"ending": ending, "exit_code": code, "unproven": why})

    async def close(self) -> None:
        """End running jobs and remove every copy. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for running in list(self._running):
            await running.end()
        await asyncio.to_thread(self._helper.close)
        for group in self._groups:
            group.close()
        await asyncio.to_thread(self._scratch.close)


def read_report(
    lines: Sequence[str], secret: str, runner: Words, proof: str | None, out_of_memory: bool
) -> tuple[Ending, int | None]:
    """The ending that the report tells. Raises `SandboxError` where the jail itself failed.

    `runner` is empty where there was no runner; lines that begin with no such word are ignored as forged.
    """
    jail = next((rest for first, _, rest in (line.partition(" ") for line in lines) if first == secret), "")
    word, _, rest = jail.partition(" ")
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
    return judge_exit(status, proof, proves=bool(runner.nonce), began=bool(runner.nonce))
