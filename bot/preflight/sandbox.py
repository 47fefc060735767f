"""Docker and the image in which tests run."""

import asyncio
import logging
import threading
from pathlib import Path

from bot.errors import SandboxUnavailable
from bot.preflight.finding import Finding
from bot.settings import SandboxSettings
from bot.store.disk import lacking

_NAME = "docker"
log = logging.getLogger(__name__)


async def docker(settings: SandboxSettings) -> list[Finding]:
    """The daemon, its runtime, and the image."""
    return await asyncio.to_thread(_look, settings)


def _look(settings: SandboxSettings) -> list[Finding]:
    from bot.sandbox.docker_engine import TROUBLE, connect, has_image  # the client's import takes a moment
    from bot.sandbox.docker_trouble import said

    try:
        client = connect()
    except SandboxUnavailable as error:
        return [Finding.missing(_NAME, str(error))]
    try:
        client.timeout = 10  # seconds an answer
        version = client.version()["Version"]
        found = [Finding.ok(_NAME, f"Docker Engine {version}")]
        told = client.info()
        if trouble := lacking(Path(told.get("DockerRootDir") or "/nonexistent")):
            found.append(Finding.missing("docker disk", trouble, "`docker system df` tells"))
        if settings.runtime and settings.runtime not in (known := told.get("Runtimes") or {}):
            detail = f"the daemon has no runtime {settings.runtime}, only {', '.join(sorted(known))}"
            found.append(Finding.missing("sandbox runtime", detail, "install it, or correct TROOP_SANDBOX_RUNTIME"))
        return [*found, _image(settings.image, has_image(client, settings.image))]
    except TROUBLE as error:
        return [Finding.missing(_NAME, f"the daemon does not answer: {said(error)}")]
    finally:
        client.close()


def _image(name: str, there: bool) -> Finding:
    if there:
        return Finding.ok("sandbox image", name)
    return Finding.missing(
        "sandbox image",
        f"{name} is not here",
        f"`docker pull {name}` or `troop doctor --fix`, or name another in TROOP_SANDBOX_IMAGE; README of deploy/ "
        "tells how to make one without a registry",
    )


def prepare_sandbox(settings: SandboxSettings) -> threading.Thread:
    """Remove what killed workers left, and pull the image where it is not here, in a thread that ends with the process.

    Meanwhile `docker` says that the image is missing.
    """
    thread = threading.Thread(target=_prepare, args=[settings.image], name="image", daemon=True)
    thread.start()
    return thread


def _prepare(name: str) -> None:
    from bot.sandbox.docker_engine import TROUBLE, connect, ensure_image, has_image, sweep

    try:
        client = connect()
        try:
            if swept := sweep(client):
                log.info("removed %d containers and images that killed workers left", swept)
            if not has_image(client, name):
                log.info("pulling the sandbox's image %s", name)
                ensure_image(client, name)
                log.info("the sandbox's image %s is here", name)
        finally:
            client.close()
    except (SandboxUnavailable, *TROUBLE) as error:
        log.error("the sandbox's image %s can't be pulled: %s", name, error)
