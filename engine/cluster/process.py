"""The process of `troop engine --replicas N`: starts Ray and the replicas, and serves their one address."""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from engine import logs
from engine.errors import LoadError, ending
from engine.server.body import MAX_BODY, BodyLimit
from engine.server.machine import Server, available_cores, follow_stdin, listen, model_name
from engine.settings import Settings
from engine.weights.checkpoint import resolve

if TYPE_CHECKING:
    from engine.cluster.ray_actors import RayPlacement

DRAIN_SECONDS = 25  # that requests may go on after a signal; Kubernetes kills after 30
NEEDED = ("aiohttp", "ray")
MISSING = "--replicas needs the extra `cluster`: pip install '.[cluster]' in a checkout, or pip install aiohttp ray"


def serve(settings: Settings) -> int:
    """Serve until a signal ends it. Returns the exit status: 0 after a signal, 1 if the model cannot be served."""
    logs.begin(settings.log_level)
    if settings.follow_stdin:
        follow_stdin()
    listener = listen(settings.host, settings.port)
    try:
        if any(importlib.util.find_spec(name) is None for name in NEEDED):
            raise LoadError(MISSING)
        _serve(for_replicas(settings), listener)
    except LoadError as error:
        print(ending(error), file=sys.stderr)
        return 1
    except (SystemExit, KeyboardInterrupt):  # a signal
        return 0
    finally:
        listener.close()
    return 0


def for_replicas(settings: Settings) -> Settings:
    """The same for every replica: the model as a folder, its name, and a share of the cores.

    Raises:
        LoadError: there is no such model.
    """
    changes: dict[str, object] = {"served_model_name": settings.served_model_name or model_name(settings.model)}
    if settings.ray_address is None:  # before there are several processes that would all convert or fetch it
        changes["model"] = str(resolve(settings.model, settings.model_cache, settings.max_model_len))
        share = available_cores() // (settings.replicas * settings.tensor_parallel)
        changes["threads"] = settings.threads or max(1, share)
    elif Path(settings.model).exists():  # other machines have it at the same place, or not at all
        changes["model"] = str(Path(settings.model).resolve())
    return settings.model_copy(update=changes)


def _serve(settings: Settings, listener: socket.socket) -> None:
    prepare_environment(settings.ray_address is None)
    from engine.cluster.ray_actors import RayPlacement, existing_cluster, local_cluster

    address = settings.ray_address
    with local_cluster(settings.replicas) if address is None else existing_cluster(address):
        signal.signal(signal.SIGTERM, _end)  # Ray has put its own there
        # One key for all who may ask the replicas: the operator's, or one that nobody else knows.
        key = settings.api_key or secrets.token_hex(32)
        names = [str(number) for number in range(settings.replicas)]
        placement = RayPlacement(names, settings, key)
        with contextlib.closing(placement):
            asyncio.run(_relay(placement, names, settings, key, listener))


async def _relay(
    placement: "RayPlacement", names: list[str], settings: Settings, key: str, listener: socket.socket
) -> None:
    from engine.cluster.relay import Relay
    from engine.cluster.replicas import Replicas
    from engine.cluster.routing import Router

    await placement.all_up()
    relay = Relay(Replicas(names, placement), Router(names), None if settings.api_key else key)
    app = BodyLimit(relay, MAX_BODY)
    server = Server(app, listener, timeout_graceful_shutdown=DRAIN_SECONDS, lifespan="on")
    await server.serve(sockets=[listener])


def prepare_environment(local: bool) -> None:
    """What Ray reads from the environment when it is first imported, here and in all its processes."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it phones nobody
    if local:
        # Ray's own words for "do not replace 127.0.0.1 by the address that other machines reach".
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray writes one into the home folder


def _end(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)
