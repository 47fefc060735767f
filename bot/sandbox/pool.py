"""The Docker sandbox: a pool of containers, each of which runs one job after another.

After a time-out, a kill, a memory kill or a process left behind, a container is destroyed and replaced. Failures of the
daemon are retried on a new container. A test is never retried: a repeated test would not be the same vote.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import docker

from bot.contracts import Follow
from bot.errors import BuildFailed, SandboxError, SandboxUnavailable
from bot.recipe import Recipe
from bot.records import Ending, Environment, Execution, FileChange, SandboxJob, Service
from bot.sandbox import docker_engine, docker_trouble, images, preparation, script_command, tree
from bot.sandbox import services as servers
from bot.sandbox.build import NOTHING, Builder, Plan
from bot.sandbox.containers import LIFETIME, Broken, Container, Dirty, Prepared, retrying
from bot.sandbox.doubted import believed, doubted
from bot.sandbox.output import OF_COMMAND
from bot.sandbox.placing import Placed, placed
from bot.sandbox.preparation import Preparation, Ready
from bot.sandbox.prepared import PreparedTrees
from bot.scratch import ScratchFolder
from bot.settings import SandboxSettings

_ATTEMPTS = 4
_TOO_LARGE = "the tree does not fit into /repo"  # as job.sh says it
_EARLY = "troop: python before 3.8"
_FIRST = f"""test -w . && sleep 0 || exit
python3 -I -c 'import sys; print("{_EARLY}" if sys.version_info < (3, 8) else "")' 2>/dev/null || true"""
_builds: dict[str, asyncio.Lock] = {}  # one of a repository at a time in this process

P = ParamSpec("P")
T = TypeVar("T")


class DockerSandbox:
    """Runs jobs in containers. Open it with `DockerSandbox.open`; the SDK's blocking calls are made in threads."""

    def __init__(
        self,
        settings: SandboxSettings,
        scratch: ScratchFolder,
        client: docker.APIClient,
        scripts: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._settings = settings
        self._scratch = scratch
        self._base = scratch.path / "base"
        self._client = client
        self._scripts = scripts
        self._builder: Builder | None = None
        self._image = ""  # that jobs begin with
        self._tree = ""  # with the tree as it is
        self.environment = Environment(sandbox="docker")
        self._roots: tuple[str, ...] = ("",)
        self.early = False  # whether its Python is older than 3.8
        self.notes: tuple[str, ...] = ()  # what of the build failed that the tests may do without
        self.servers = ""  # that tests find beside them, in words
        self._beside = servers.NONE
        self._prepared: PreparedTrees | None = None
        self._variables: dict[str, str] = {}
        self._run = secrets.token_hex(6)
        self._concurrency = settings.concurrency or os.cpu_count() or 1
        self._slots = asyncio.Semaphore(self._concurrency)
        # Two threads for each job: one that runs it, one that destroys its container.
        self._threads = ThreadPoolExecutor(2 * self._concurrency + 2, thread_name_prefix="sandbox")
        self._idle: list[Container] = []
        self._busy: set[Container] = set()
        self._destroying: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: SandboxSettings,
        source: Path,
        *,
        scripts: Mapping[str, tuple[str, ...]] | None = None,
        plan: Plan = NOTHING,
    ) -> "DockerSandbox":
        """Copy the tree, build its image, which can take minutes. Raises `SandboxUnavailable`, `SandboxError` and
        `BuildFailed`."""
        concurrency = settings.concurrency or os.cpu_count() or 1
        client = await asyncio.to_thread(docker_engine.connect, 2 * concurrency + 4)
        self = cls(settings, await ScratchFolder.fresh(), client, scripts or {})
        try:
            await self._in_thread(docker_engine.sweep, client)
            await self._in_thread(tree.copy_tree, source, self._base)
            self._roots = await self._in_thread(tree.roots_of, self._base)
            image, image_id = await self._built(plan)
            digest = await self._in_thread(docker_engine.digest_of, client, image)
            built = tuple(line for layer in plan.recipe.layers for line in layer.commands)
            self.environment = Environment(sandbox="docker", image=image, digest=digest, steps=built)
            self._image = self._tree = await self._in_thread(self._tree_image, image_id, plan.recipe.services)
            if self._builder is not None and self._builder.layers_built:
                await self._in_thread(docker_engine.sweep_cache, client, int(settings.images_kept))
            client.timeout = docker_engine.SERVING
            await self._probe(image)
            told = await self._serve(plan.recipe)
            prepared = await self._prepare_base(plan)
            self.servers = servers.in_words(told.running, told.versions, tuple(self._variables), prepared=prepared)
        except docker_engine.TROUBLE as error:
            await self.close()
            raise SandboxError(f"the Docker sandbox can't be set up: {docker_trouble.said(error)}") from error
        except BaseException:
            await self.close()
            raise
        return self

    def _tree_image(self, image_id: str, services: Sequence[Service]) -> str:
        if not services:
            return images.tree_image(self._client, image_id, self._base)
        name = images.with_data(self._client, image_id, services, self._settings)
        try:
            return images.tree_image(self._client, name, self._base)
        finally:
            self._client.remove_image(name)  # the name alone: it is below the tree's

    async def _built(self, plan: Plan) -> tuple[str, str]:
        """The name of the image that is begun from, and the id of what was built on it.

        Where it lacks a program that the recipe needs, one of the server's images is taken that has it by its name.
        """
        loop = asyncio.get_running_loop()

        def tell_here(words: str) -> None:  # called in the thread of the build
            loop.call_soon_threadsafe(plan.tell, words)

        image = plan.recipe.image or self._settings.image
        tried: list[str] = []
        while True:
            if not await self._in_thread(docker_engine.has_image, self._client, image):
                plan.tell(f"pulling the image {image}")
            image_id = await self._in_thread(docker_engine.ensure_image, self._client, image)
            if not plan.recipe.layers:
                return image, image_id
            builder = self._builder = Builder(
                self._client, self._settings, self._base, replace(plan, tell=tell_here), self._run
            )
            try:
                async with _builds.setdefault(plan.repository, asyncio.Lock()):
                    built = await self._in_thread(builder.build, image_id, image)
                self.notes = tuple(builder.notes)
                return image, built
            except BuildFailed as failure:
                tried.append(image)
                left = [one for one in self._settings.images_allowed if one not in tried]
                other = images.another(failure.image, left)
                if not failure.missing or plan.recipe.image or not other:
                    raise
                plan.tell(f"{failure.why}: taking {other}")
                image = other

    async def _probe(self, image: str) -> None:
        """Run a first job. Raises `SandboxUnavailable` where the image lacks what every job needs, `BuildFailed` where
        the repository's build took it away, or left too much to copy."""
        needed = "it needs sh, cp, rm, tar, sleep and timeout (coreutils and tar, or busybox)"
        left = "what the repository's build leaves can't be tested"
        try:
            first = self._prepare(Placed(SandboxJob(command=("sh", "-c", _FIRST), timeout=60)))
            assert first is not None
            result = await self._run_prepared(first, attempts=1)
        except SandboxError as error:
            if _TOO_LARGE in str(error) and self._builder is not None:
                raise BuildFailed(left, why=_TOO_LARGE) from error
            raise SandboxUnavailable(f"the image {image} can't run jobs: {needed} ({error})") from error
        if not result.passed:
            ended = f"a first one ended with {result.status} {result.tail(3, 300)}; {needed}"
            if self._builder is not None:
                raise BuildFailed(left, why=ended)
            raise SandboxUnavailable(f"the image {image} can't run jobs: {ended}")
        self.early = result.output.strip() == _EARLY

    async def _serve(self, recipe: Recipe) -> servers.Told:
        """Find out which of the servers that tests need can be started; the others are not tried again."""
        self._variables = recipe.variables
        self._beside = servers.Beside(recipe.services)
        if not recipe.services:
            return servers.Told((), (), ())
        while self._idle:  # they have none
            self._destroy(self._idle.pop())
        first = self._prepare(Placed(SandboxJob(command=("cat", f"{servers.PLACE}/told"), timeout=60)))
        assert first is not None
        told = servers.told(recipe.services, (await self._run_prepared(first, attempts=1)).output)
        self._beside = servers.Beside(told.running, surely=True)
        self.notes += told.notes
        self.environment = self.environment.model_copy(update={"services": told.versions})
        return told

    async def _prepare_base(self, plan: Plan) -> bool:
        """Run what must happen before tests; whether it did. Raises as `PreparedTrees.on_base`."""
        if not plan.recipe.prepare:
            return False
        plan.tell(f"preparing the tests ({plan.recipe.prepare_from})")
        while self._idle:  # of the image that is not prepared
            self._destroy(self._idle.pop())

        def job(argv: tuple[str, ...], changes: Sequence[FileChange], seconds: float) -> Prepared:
            found = self._prepare(Placed(SandboxJob(command=argv, changes=tuple(changes), timeout=seconds)))
            assert found is not None, "it has a command"
            return found

        made = Preparation(self._client, self._settings, self._base, self._scratch.path, self._image, self._run)
        self._prepared = PreparedTrees(made, plan.recipe, self._beside, job, self._steadily, self._works)
        image, note = await self._prepared.on_base(self._settings.setup_timeout)
        if note:
            self.notes += (note,)
            return False
        self._image, self._beside = image, self._beside._replace(made=servers.PREPARED)
        return True

    async def _steadily(self, call: Callable[[], T]) -> T:
        """In a thread, again where a container or the daemon failed. Raises `SandboxError`."""
        try:
            async for attempt in retrying(_ATTEMPTS):
                with attempt:
                    try:
                        return await self._in_thread(call)
                    except docker_engine.TROUBLE as error:
                        raise Broken(f"the Docker daemon failed: {docker_trouble.said(error)}") from error
        except Broken as trouble:
            raise SandboxError(f"Docker failed {_ATTEMPTS} times in a row: {trouble}") from trouble
        raise AssertionError("unreachable")

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        """One job on a fresh copy of the tree. Raises `SandboxError` where Docker failed for good."""
        reason = tree.refused(self._base, job.changes)
        if reason:
            return Execution(ending=Ending.UNAVAILABLE, output=f"refused: {reason}")
        prepared = self._prepare(place := placed(job, self._scripts, self._base))
        if prepared is None:
            said = f"no command is known for {job.test.path if job.test else '(nothing)'}: give it a shebang, or name "
            return Execution(ending=Ending.UNAVAILABLE, output=said + "one under `scripts`")
        async with self._slots:
            ready = await self._prepared.ready(prepared.changes) if self._prepared else Ready()
            if isinstance(ready, Execution):
                return ready
            try:
                found = await self._run_prepared(ready.onto(prepared), follow=follow)
            except SandboxError as error:
                if not ready.image or not await self._works():
                    raise
                return preparation.unusable(error)
            for doubt, code in doubted(place.job, place.scripts) if found.passed else ():
                if found.passed and (again := self._prepare(place._replace(job=doubt))) is not None:
                    found = believed(found, await self._run_prepared(ready.onto(again)), code)
            return found

    def _prepare(self, placed: Placed) -> Prepared | None:
        job = placed.job
        changes = tree.trusted(self._base, job.changes)
        import_path = tree.python_path(self._roots, "/repo/tree")
        environment = script_command.ENVIRONMENT | {
            "HOME": "/tmp",  # noqa: S108 - inside
            "TMPDIR": "/repo/tmp",  # where programs may be run, which `go test` and rustdoc do
            "GOTMPDIR": "/repo/tmp",
            "PYTHONPATH": "",  # the runner sets it, since nothing of the tree may be imported before
        }
        argv, script = job.command, ""
        files: tuple[tuple[str, str], ...] = ()
        if job.test is not None:
            files = ((name := placed.script("tree", "test"), job.test.text),)
            if not argv:
                files = ((name, script_command.placed(job.test.text, script := f"/repo/{name}", f"{images.ROOT}/")),)
                argv = script_command.script_command(job.test, script, placed.scripts)
        named, argv = script_command.split_environment(argv)
        import_path = script_command.joined_path(named.pop("PYTHONPATH", ""), import_path, "/repo/tree")
        environment |= self._variables | named
        if provable := script_command.provable(argv, script, early=self.early):
            runner = f"{images.ROOT}/{provable.runner}"
            argv = (*provable.interpreter, runner, "3", "/repo/test/.changed", import_path, *provable.arguments)
        else:
            environment["PYTHONPATH"] = import_path
        if not argv:
            return None
        return Prepared(
            runner=provable is not None,
            argv=argv,
            environment=environment,
            changes=changes,
            marks=tree.marks_of(self._base, changes),
            files=files,
            timeout=job.timeout,
            most=self._settings.output_limit * (OF_COMMAND if job.command else 1),
        )

    async def _run_prepared(self, job: Prepared, attempts: int = _ATTEMPTS, follow: Follow | None = None) -> Execution:
        """The job's execution, on another container where one, or the daemon, failed. Raises `SandboxError`."""
        suspected = False
        try:
            async for attempt in retrying(attempts):
                with attempt:
                    try:
                        while (execution := await self._attempt(job, suspected, follow)) is None:
                            pass  # the container was not clean, and is gone
                    except Broken as trouble:
                        suspected = trouble.execution is not None
                        raise
                    return execution
        except Broken as trouble:
            raise SandboxError(f"Docker failed {attempts} times in a row: {trouble}") from trouble
        raise AssertionError("unreachable")

    async def _attempt(self, job: Prepared, suspected: bool, follow: Follow | None) -> Execution | None:
        """The job's execution on one container, None if it had served others and could not be cleaned.

        Raises `Broken` if it is worth another try. `suspected`: a container has ended with this job. Either the job did
        that, or a daemon that restarts ends them all; so another container, out of the job's reach, rests meanwhile.
        """
        if self._closed:
            raise SandboxError("the sandbox was closed while a job ran")
        container: Container | None = None
        witness: Container | None = None
        reusable = survived = False
        try:
            if suspected:
                witness = await self._take(job.timeout)
            container = await self._take(job.timeout, job.image)
            execution, reusable = await self._in_thread(container.run, job, follow)
            return execution
        except Dirty:
            if container is not None and container.served > 1:
                return None
            raise
        except Broken as trouble:
            survived = witness is not None and await self._in_thread(witness.rests)
            if trouble.execution is not None and survived:
                return trouble.execution
            raise
        except docker_engine.TROUBLE as error:
            raise Broken(f"no container could be started: {docker_trouble.said(error)}") from error
        finally:
            if witness is not None:
                self._give(witness, survived or reusable)
            if container is not None:
                self._give(container, reusable)

    async def _works(self) -> bool:
        """Whether a container of the base commit can be had now."""
        try:
            self._give(await self._take(LIFETIME), reusable=False)
        except (Broken, *docker_engine.TROUBLE):
            return False
        return True

    async def _take(self, seconds: float, image: str = "") -> Container:
        """A container for a job of that many seconds: an idle one, or a new one; a new one of another image."""
        while self._idle and not image:
            container = self._idle.pop()
            if time.monotonic() - container.started + seconds < LIFETIME:
                self._busy.add(container)
                return container
            self._destroy(container)
        image = image or self._image
        started = await self._in_thread(Container, self._client, image, self._settings, self._run, self._beside)
        self._busy.add(started)
        return started

    def _give(self, container: Container, reusable: bool) -> None:
        self._busy.discard(container)
        if reusable and not self._closed:
            self._idle.append(container)
        else:
            self._destroy(container)

    def _destroy(self, container: Container) -> None:
        task = asyncio.create_task(self._in_thread(container.destroy))
        self._destroying.add(task)
        task.add_done_callback(self._destroying.discard)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def close(self) -> None:
        """Destroy the containers and the tree's image. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._builder is not None:
            self._builder.stop()
        for container in [*self._idle, *self._busy]:
            self._destroy(container)
        self._idle.clear()
        await asyncio.gather(*list(self._destroying), return_exceptions=True)
        if self._prepared is not None:
            await self._prepared.close()
        await self._in_thread(docker_engine.destroy_run, self._client, self._run, self._tree)
        await asyncio.to_thread(self._scratch.close)
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        self._client.close()
