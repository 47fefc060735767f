"""Images of the Docker sandbox: the repository's dependencies (built once, with network), then its tree.

image -> setup image: what `setup` installed, cached by image, command and dependency files
      -> tree image:  the files of this very checkout in /opt/troop/base, owned by root; removed when the sandbox closes

The tree is in an image, not in a container's tmpfs, so that no job can change what later jobs are copied from.
"""

import fnmatch
import hashlib
import os
import shlex
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO

import docker
import docker.errors

from bot.errors import SandboxError
from bot.sandbox import docker_engine

_HERE = Path(__file__).parent
ROOT = "/opt/troop"
_SETUP_LIFETIME = 30 * 86_400.0  # seconds
_TREE_LIFETIME = 86_400.0

# Files that decide what is installed. A change in one of them, or in a file that `setup` names, means a new build.
_DEPENDENCIES = (
    *("pyproject.toml", "setup.py", "setup.cfg", "*requirements*.txt", "constraints*.txt", "Pipfile*", "*.lock"),
    *("environment.y*ml", "tox.ini", "package.json", "package-lock.json", "pnpm-lock.yaml", "go.mod", "go.sum"),
    *("Cargo.toml", "Gemfile", "*.gemspec", "composer.json", "pom.xml", "build.gradle*", "mix.exs", "Makefile"),
)


def dependency_hash(base: Path, setup: str) -> str:
    """Hash of the files in `base` that decide what `setup` installs, and of the command."""
    digest = hashlib.sha256(setup.encode())
    try:
        named = {os.path.normpath(word) for word in shlex.split(setup)}
    except ValueError:
        named = set()
    for folder, folders, files in os.walk(base):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            relative = path.relative_to(base).as_posix()
            wanted = relative in named or any(fnmatch.fnmatch(name, pattern) for pattern in _DEPENDENCIES)
            if wanted and not path.is_symlink():
                digest.update(f"\0{relative}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def setup_image(client: docker.APIClient, image_id: str, base: Path, setup: str, seconds: float) -> str:
    """The id of the image with the dependencies installed; built where it is not cached.

    `setup` runs as root in a writable container with network, in a copy of the tree, with no secret in its
    environment. What it creates in the tree (`node_modules`, compiled extensions) is in every job. Raises
    `SandboxError` with the end of its output where it fails.
    """
    key = hashlib.sha256(f"{image_id}\0{dependency_hash(base, setup)}".encode()).hexdigest()[:24]
    name = f"troop-setup:{key}"
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        pass
    # The list of the tree's files is kept outside it: for another commit they are removed from the cached image first.
    script = (
        f"cd {ROOT}/base && find . \\( -type f -o -type l \\) -print0 > {ROOT}/manifest || exit 1\n"
        f"( {setup}\n) && chmod -R a+rX {ROOT}/base\n"
    )
    container = client.create_container(
        image_id,
        entrypoint=["sh", "-c", script],
        command=[],
        user="0:0",
        environment={"HOME": "/root", "LANG": "C.UTF-8"},
        labels=docker_engine.labels("setup", seconds + 600),
        host_config=client.create_host_config(
            security_opt=["no-new-privileges:true"], init=True, pids_limit=4096, mem_limit="8g"
        ),
    )["Id"]
    try:
        _put_tree(client, container, base)
        client.start(container)
        try:
            code = client.wait(container, timeout=seconds)["StatusCode"]
        except docker_engine.TROUBLE as error:
            if client.inspect_container(container)["State"]["Running"]:
                raise SandboxError(
                    f"`setup` was stopped after {seconds:.0f} s (TROOP_SANDBOX_SETUP_TIMEOUT)"
                ) from error
            raise
        if code != 0:
            said = client.logs(container, tail=30).decode("utf-8", "replace").strip()[-3000:]
            raise SandboxError(f"the repository's `setup` command failed with exit code {code}:\n{said}")
        return _commit(client, container, name, docker_engine.labels("setup", _SETUP_LIFETIME))
    finally:
        docker_engine.destroy(client, container)


def tree_image(client: docker.APIClient, image_id: str, base: Path, *, after_setup: bool) -> str:
    """The id of an image with the tree, the runner and the job script in it. The caller removes it."""
    container = client.create_container(
        image_id,
        entrypoint=["sh", "-c", f"cd {ROOT}/base && xargs -0 rm -f < {ROOT}/manifest"],
        command=[],
        user="0:0",
        network_disabled=True,
        labels=docker_engine.labels("tree", 600),
        host_config=client.create_host_config(network_mode="none", security_opt=["no-new-privileges:true"]),
    )["Id"]
    try:
        if after_setup:
            client.start(container)
            if client.wait(container, timeout=600)["StatusCode"] != 0:
                raise SandboxError("the cached image does not fit this checkout: " + str(client.logs(container))[-500:])
        _put_tree(client, container, base)
        tag = f"troop-tree:{os.urandom(8).hex()}"
        return _commit(client, container, tag, docker_engine.labels("tree", _TREE_LIFETIME))
    finally:
        docker_engine.destroy(client, container)


def _commit(client: docker.APIClient, container: str, name: str, found: dict[str, str]) -> str:
    repository, tag = name.split(":")
    changes = [f"LABEL {key}={value}" for key, value in found.items()]
    client.commit(container, repository=repository, tag=tag, changes=changes)
    return str(client.inspect_image(name)["Id"])


def _put_tree(client: docker.APIClient, container: str, base: Path) -> None:
    """Write the base copy and the scripts that run jobs below /opt/troop. The archive is a file, to save memory."""
    with tempfile.TemporaryFile() as file:
        _pack(base, file)
        file.seek(0)
        client.put_archive(container, "/", file)


def _pack(base: Path, file: IO[bytes]) -> None:
    def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    now = int(time.time())
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder, mode in (("opt", 0o755), ("opt/troop", 0o755), ("repo", 0o1777)):  # the tmpfs takes its mode
            member = tarfile.TarInfo(folder)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, mode, now
            tar.addfile(member)
        tar.add(base, "opt/troop/base", filter=owned_by_root)
        for name in ("job.sh", "runner.py"):
            tar.add(_HERE / name, f"opt/troop/{name}", filter=owned_by_root)
