"""The Docker Engine: connecting, images, and removing what a killed worker left behind."""

import contextlib
import datetime
import io
import math
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

from bot.errors import ImageMissing, SandboxUnavailable
from bot.sandbox import docker_trouble, owner

LABEL = "troop"  # on every container and image that we make; its value is the purpose
EXPIRES = "troop.expires_at"  # seconds since 1970
_KNOCKING = 10  # seconds for the daemon's first answer
_BUILDING = 600  # seconds for an answer while images are pulled and built
SERVING = 60  # seconds while jobs run
RUN = "troop.run"  # which sandbox made it
OWNER = "troop.owner"  # which process
CACHED = "setup"  # the purpose of images that are kept
CACHE = "troop-build"  # their name
_IN_USE = 900.0  # seconds after its last use in which an image is kept whatever it takes

_owed: dict[str, str] = {}  # sandboxes of this process that closed while the daemon was away, with their trees' images

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
    """The id of the image, pulled where it is not there. Raises `ImageMissing`, which says how to get it."""
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        pass
    try:
        repository, tag = docker.utils.parse_repository_tag(name)
        client.pull(repository, tag=tag or "latest")
        return str(client.inspect_image(name)["Id"])
    except TROUBLE as error:
        raise ImageMissing(
            f"the image {name} is not here and can't be pulled: name another in TROOP_SANDBOX_IMAGE, load it with "
            f"`docker load`, or make a minimal one with deploy/make-base-image.sh NAME ({docker_trouble.said(error)})"
        ) from error


def digest_of(client: docker.APIClient, name: str) -> str:
    """By which registries know the image, `NAME@sha256:...`; its id where it comes from none."""
    found = client.inspect_image(name)
    return str(next(iter(found.get("RepoDigests") or ()), found["Id"]))


def labels(purpose: str, lifetime: float) -> dict[str, str]:
    return {LABEL: purpose, EXPIRES: str(int(time.time() + lifetime)), OWNER: owner.this()}


def sweep(client: docker.APIClient) -> int:
    """Remove our containers and trees' images that nobody needs any more; how many. Never raises.

    Those are what is expired, what a process made that is no longer there (a worker that was killed), and what this one
    could not destroy when it had done with it.
    """
    swept = 0
    for run, image in list(_owed.items()):
        destroy_run(client, run, image)
    with contextlib.suppress(*TROUBLE):
        for container in client.containers(all=True, filters={"label": EXPIRES}):
            if _is_left(client, container.get("Labels")):
                swept += destroy(client, container["Id"])
        for image in client.images(filters={"label": EXPIRES}):
            found = image.get("Labels") or {}
            cached = found.get(LABEL) == CACHED and not _expired(found)
            if not cached and _is_left(client, found):
                with contextlib.suppress(*TROUBLE):
                    client.remove_image(image["Id"], force=True)
                    swept += 1
    return swept


def sweep_cache(client: docker.APIClient, most: int) -> int:
    """Remove built images, those first whose last use is the longest ago, until they take at most `most` bytes more
    than the images that they were built from; how many. Never raises."""
    removed = 0
    with contextlib.suppress(*TROUBLE):
        found = []
        for image in client.images(filters={"label": f"{LABEL}={CACHED}"}):
            for name in image.get("RepoTags") or ():
                if name.startswith(f"{CACHE}:"):
                    details = client.inspect_image(image["Id"])
                    parent = details.get("Parent")
                    own = details["Size"] - (client.inspect_image(parent)["Size"] if parent else 0)
                    found.append((details.get("Metadata", {}).get("LastTagTime") or "", name, max(0, own)))
        found.sort()
        total = sum(size for _, _, size in found)
        for used, name, size in found:
            if total <= most:
                break
            if _seconds_since(used) > _IN_USE:
                with contextlib.suppress(*TROUBLE):
                    client.remove_image(name)
                    removed += 1
                total -= size
    return removed


def _is_left(client: docker.APIClient, found: dict[str, Any] | None) -> bool:
    return _expired(found) or owner.is_gone((found or {}).get(OWNER, ""), lambda name: _started(client, name))


def _started(client: docker.APIClient, container: str) -> float | None:
    """When the container began, in seconds since 1970; None where it is not there or does not run."""
    try:
        state = client.inspect_container(container)["State"]
    except docker.errors.NotFound:
        return None
    return time.time() - _seconds_since(state["StartedAt"]) if state["Running"] else None


def _seconds_since(stamp: str) -> float:
    """Since a time in the form of RFC 3339, as Docker writes it; long, where it is none."""
    try:
        then = datetime.datetime.fromisoformat(f"{stamp[:19]}+00:00")
    except ValueError:
        return math.inf
    return time.time() - then.timestamp()


def destroy_run(client: docker.APIClient, run: str, image: str) -> None:
    """Destroy all containers of one sandbox, then its tree's image, if it has one.

    Never raises: where the daemon is away, this process' next `sweep` does it.
    """
    _owed[run] = image
    with contextlib.suppress(*TROUBLE):
        for container in client.containers(all=True, filters={"label": f"{RUN}={run}"}):
            client.remove_container(container["Id"], force=True, v=True)
        if image:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.remove_image(image, force=True)
        _owed.pop(run, None)


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
