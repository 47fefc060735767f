"""The Docker Engine: connecting, images, and removing what a killed worker left behind."""

import contextlib
import io
import os
import socket
import tarfile
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
import requests.exceptions

from bot.errors import SandboxUnavailable
from bot.sandbox import docker_trouble

LABEL = "troop"  # on every container and image that we make; its value is the purpose
EXPIRES = "troop.expires_at"  # seconds since 1970
_KNOCKING = 10  # seconds for the daemon's first answer
_BUILDING = 600  # seconds for an answer while images are pulled and built
SERVING = 60  # seconds while jobs run
RUN = "troop.run"  # which sandbox made it

# What the SDK raises where the daemon failed, not the job.
TROUBLE = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


def connect(connections: int = 10) -> docker.APIClient:
    """The Engine that DOCKER_HOST names, or the local one. Raises `SandboxUnavailable`, which says how to get one."""
    address = os.environ.get("DOCKER_HOST") or docker_trouble.LOCAL
    try:
        options = docker.utils.kwargs_from_env()
        _knock(address)  # the SDK leaks a socket each time that nobody answers
        client = docker.APIClient(**options, version="auto", timeout=_KNOCKING, max_pool_size=connections)
    except (*TROUBLE, ValueError) as error:
        raise SandboxUnavailable(docker_trouble.why(error, address)) from error
    client.timeout = _BUILDING
    return client


def _knock(address: str) -> None:
    """Connect and say nothing. Raises `OSError`."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(_KNOCKING)
            attempt.connect(address.removeprefix("unix://"))
    elif address.startswith("tcp://"):
        parts = urlsplit(address)
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), _KNOCKING).close()


def has_image(client: docker.APIClient, name: str) -> bool:
    """Whether the image is here. Raises one of `TROUBLE`."""
    try:
        client.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def ensure_image(client: docker.APIClient, name: str) -> str:
    """The id of the image, pulled where it is not there. Raises `SandboxUnavailable`, which says how to get it."""
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        pass
    try:
        repository, tag = docker.utils.parse_repository_tag(name)
        client.pull(repository, tag=tag or "latest")
        return str(client.inspect_image(name)["Id"])
    except TROUBLE as error:
        raise SandboxUnavailable(
            f"the image {name} is not here and can't be pulled: name another in TROOP_SANDBOX_IMAGE, load it with "
            f"`docker load`, or make a minimal one with deploy/make-base-image.sh NAME ({_short(error)})"
        ) from error


def labels(purpose: str, lifetime: float) -> dict[str, str]:
    return {LABEL: purpose, EXPIRES: str(int(time.time() + lifetime))}


def sweep(client: docker.APIClient) -> int:
    """Remove our expired containers and images; how many. Never raises."""
    swept = 0
    with contextlib.suppress(*TROUBLE):
        for container in client.containers(all=True, filters={"label": EXPIRES}):
            if _expired(container.get("Labels")):
                swept += destroy(client, container["Id"])
        for image in client.images(filters={"label": EXPIRES}):
            if _expired(image.get("Labels")):
                with contextlib.suppress(*TROUBLE):
                    client.remove_image(image["Id"], force=False)
                    swept += 1
    return swept


def destroy_run(client: docker.APIClient, run: str) -> None:
    """Destroy all containers of one sandbox, also those left from when the daemon was away. Never raises."""
    with contextlib.suppress(*TROUBLE):
        for container in client.containers(all=True, filters={"label": f"{RUN}={run}"}):
            destroy(client, container["Id"])


def destroy(client: docker.APIClient, container: str) -> bool:
    """Kill and remove; whether that worked. Never raises: what is left is removed after it expires."""
    with contextlib.suppress(*TROUBLE):
        client.remove_container(container, force=True, v=True)
        return True
    return False


def archive(members: Iterable[tuple[str, bytes, int]]) -> bytes:
    """A tar of (name, content, mode), owned by root, dated now."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content, mode in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), mode, now
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _expired(found: dict[str, Any] | None) -> bool:
    value = (found or {}).get(EXPIRES, "")
    return value.isdigit() and int(value) < time.time()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
