"""Ray as what starts the replicas, each an actor, and starts them again where their process or their machine ends."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence

import ray  # `engine.cluster.process.prepare_environment` comes first
from ray.exceptions import RayActorError

from engine.cluster.engine_process import END_TIMEOUT, EngineProcess
from engine.errors import LoadError
from engine.settings import Settings

LOOPBACK = "127.0.0.1"
OBJECT_STORE = 80 << 20  # bytes, about the least that Ray takes: nothing goes through it


@contextlib.contextmanager
def local_cluster(replicas: int) -> Iterator[None]:
    """A Ray of our own on this machine, on the loopback interface alone, until the block ends. It leaves no files."""
    with tempfile.TemporaryDirectory(prefix="troop-ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=replicas,  # a number to count by; what the engines use is in their settings
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            logging_level="WARNING",
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
            # Memory is as the engines' settings say, and nothing is stored: Ray has nothing to judge there.
            _system_config={
                "memory_monitor_refresh_ms": 0,
                "local_fs_capacity_threshold": 1,
                "enable_metrics_collection": False,
            },
        )
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def existing_cluster(address: str) -> Iterator[None]:
    """The Ray cluster at an address, until the block ends.

    Raises:
        LoadError: it can't be reached from here.
    """
    try:
        ray.init(address=address, logging_level="WARNING")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise LoadError(f"cannot reach a Ray cluster at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


class RayPlacement:
    """Replicas as actors of the Ray cluster that this process is connected to."""

    def __init__(self, names: Sequence[str], settings: Settings, key: str) -> None:
        """Start them all.

        Args:
            names: of the replicas.
            settings: of the whole cluster.
            key: that requests to replicas must carry.

        Raises:
            LoadError: the cluster has fewer GPUs than they need.
        """
        gpus = self._gpus(len(names), settings)
        actor = ray.remote(EngineProcess).options(
            num_cpus=1,
            num_gpus=gpus,
            max_restarts=-1,
            max_concurrency=4,  # `stop` must not wait for `address`
            scheduling_strategy="SPREAD",
        )
        host = LOOPBACK if settings.ray_address is None else None
        self._actors = {name: actor.remote(settings, key, host) for name in names}

    async def address(self, replica: str) -> str:
        """See `Placement`."""
        url: str = await self._actors[replica].address.remote()
        return url

    async def restart(self, replica: str) -> None:
        """See `Placement`."""
        ray.kill(self._actors[replica], no_restart=False)

    async def all_up(self) -> None:
        """Wait until every replica has served for the first time.

        Raises:
            LoadError: one could not start.
        """
        try:
            await asyncio.gather(*(self.address(name) for name in self._actors))
        except RayActorError as error:
            raise LoadError(f"a replica ended while it started: {error}") from error
        except ray.exceptions.RayTaskError as error:
            raise LoadError(str(error.cause) if isinstance(error.cause, LoadError) else str(error)) from error

    def close(self) -> None:
        """End all replicas, each as a signal would end it."""
        with contextlib.suppress(RayActorError, ray.exceptions.GetTimeoutError):
            ray.get([one.stop.remote() for one in self._actors.values()], timeout=END_TIMEOUT)

    @staticmethod
    def _gpus(replicas: int, settings: Settings) -> int:
        """GPUs of one replica; 0 where they run on CPUs."""
        have = int(ray.cluster_resources().get("GPU", 0))
        if settings.device == "cpu" or (settings.device == "auto" and not have):
            return 0
        need = replicas * settings.tensor_parallel
        if need > have:
            raise LoadError(f"{replicas} replicas need {need} GPUs and Ray sees {have}: lower --replicas")
        return settings.tensor_parallel
