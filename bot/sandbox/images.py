"""Images of the Docker sandbox that hold a repository's tree.

image -> built image: what `bot.sandbox.build` installed, cached
      -> tree image:  the files of this very checkout in /opt/troop/base, owned by root, and sealed programs
                      (`seal.sh`); removed when the sandbox closes

The tree is in an image, not in a container's tmpfs, so that no job can change what later jobs are copied from.
"""

import contextlib
import hashlib
import io
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors

from bot.records import Service
from bot.sandbox import docker_engine, inside
from bot.sandbox.services import MADE, PLACE, PREPARED, SOCKETS, STARTING, USER, making
from bot.settings import SandboxSettings

ROOT = "/opt/troop"
_SCRIPTS = {name: Path(__file__).with_name(name).read_bytes() for name in ("job.sh", "seal.sh")} | {
    name: text.encode() for name, text in inside.FILES.items()
}
TREE = "troop.tree"  # a label: the digest of the tree that all layers were built with
LONG_AGO = 1_000_000_000  # seconds since 1970
_TREE_LIFETIME = 86_400.0  # seconds
_SEALING = 120  # seconds
_CLOSED: dict[str, Any] = {"network_mode": "none", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
_WORD = re.compile(r"[^\s;&|<>()'\"`$]+")


def files_of(base: Path) -> tuple[str, ...]:
    """Every file and link of the tree, relative to it, sorted."""
    found = []
    for folder, folders, files in os.walk(base):
        names = [*files, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]
        found += [Path(folder, name).relative_to(base).as_posix() for name in names]
    return tuple(sorted(found))


def tree_digest(base: Path, paths: Iterable[str]) -> str:
    """Of the files' content and modes, and of links with what they lead to."""
    digest = hashlib.sha256()
    for path in paths:
        file = base / path
        if file.is_symlink():
            digest.update(f"\0{path}\0link\0{file.readlink()}".encode("utf-8", "surrogateescape"))
        if file.is_file():
            mode = "x" if file.stat().st_mode & 0o111 else "-"
            content = hashlib.sha256(file.read_bytes()).digest()
            digest.update(f"\0{path}\0{mode}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def named_files(base: Path, commands: Iterable[str]) -> set[str]:
    """Files of the tree that a word of the commands names."""
    words = {os.path.normpath(word) for command in commands for word in _WORD.findall(command)}
    return {word for word in words if not word.startswith(("/", "..")) and (base / word).is_file()}


def tree_image(client: docker.APIClient, image_id: str, base: Path) -> str:
    """The id of an image with the tree, the runner and the job script in it. The caller removes it.

    What was compiled from this very tree counts as newer than it, what was compiled from another one as older.
    """
    compiled = (client.inspect_image(image_id)["Config"].get("Labels") or {}).get(TREE, "")
    changed = None if not compiled else LONG_AGO if compiled == tree_digest(base, files_of(base)) else int(time.time())
    container = client.create_container(
        image_id,
        entrypoint=["sh"],
        command=[f"{ROOT}/seal.sh"],
        user="0:0",
        network_disabled=True,
        labels=docker_engine.labels("tree", 600),
        host_config=client.create_host_config(**_CLOSED),
    )["Id"]
    try:
        put_tree(client, container, base, changed=changed)
        with contextlib.suppress(docker.errors.APIError):  # it has no shell: the first job will say so
            client.start(container)
            client.wait(container, timeout=_SEALING)
        tag = f"troop-tree:{os.urandom(8).hex()}"
        return commit(client, container, tag, docker_engine.labels("tree", _TREE_LIFETIME))
    finally:
        docker_engine.destroy(client, container)


def another(wanted: str, allowed: Sequence[str]) -> str:
    """The allowed image that is a version of the wanted one, or "". `golang:1.23` is one of `golang:1`."""

    def bare(image: str) -> str:
        return image.rpartition("/")[2].split("@")[0].split(":")[0]

    return next((one for one in allowed if wanted and bare(one) == bare(wanted)), "")


def with_data(client: docker.APIClient, image_id: str, services: Sequence[Service], settings: SandboxSettings) -> str:
    """The name of an image with the servers' data, made by the user that they run as, as far as that is done in time;
    and with the folders that their tmpfs take their mode from. The caller removes it."""
    container = client.create_container(
        image_id,
        entrypoint=["sh"],
        command=list(making(services, MADE)[1:]),
        user=f"{USER}:{USER}",
        labels=docker_engine.labels("tree", 600),
        host_config=client.create_host_config(
            **_CLOSED, mem_limit=settings.memory, memswap_limit=settings.memory, pids_limit=settings.pids
        ),
    )["Id"]
    try:
        client.put_archive(container, "/", _folders({MADE: 0o700, **dict.fromkeys((PLACE, *SOCKETS), 0o1777)}))
        with contextlib.suppress(*docker_engine.TROUBLE):  # what is not whole is made by each job
            client.start(container)
            client.wait(container, timeout=STARTING)
        name = f"troop-tree:{os.urandom(8).hex()}"
        commit(client, container, name, docker_engine.labels("tree", _TREE_LIFETIME))
        return name
    finally:
        docker_engine.destroy(client, container)


def _folders(modes: Mapping[str, int]) -> bytes:
    """An archive of empty folders of the servers' user, by their absolute paths."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, mode in modes.items():
            folder = tarfile.TarInfo(path[1:])
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, mode, USER, USER
            tar.addfile(folder)
    return packed.getvalue()


def with_prepared(
    client: docker.APIClient, image_id: str, data: Path | None, files: Mapping[str, tuple[bytes, bool]]
) -> str:
    """The id of an image with servers' data, an archive, in `PREPARED`, and with these files in the tree. The caller
    removes it."""
    container = client.create_container(
        image_id,
        entrypoint=["true"],
        user="0:0",
        network_disabled=True,
        labels=docker_engine.labels("tree", 600),
        host_config=client.create_host_config(**_CLOSED),
    )["Id"]
    try:
        if files:
            members = [(path, content, 0o755 if may else 0o644) for path, (content, may) in files.items()]
            client.put_archive(container, f"{ROOT}/base", docker_engine.archive(members))
        if data is not None:
            client.put_archive(container, "/", _folders({PREPARED: 0o700}))
            with data.open("rb") as file:
                client.put_archive(container, PREPARED, file)
        tag = f"troop-tree:{os.urandom(8).hex()}"
        return commit(client, container, tag, docker_engine.labels("tree", _TREE_LIFETIME))
    finally:
        docker_engine.destroy(client, container)


def commit(
    client: docker.APIClient, container: str, name: str, labels: Mapping[str, str], environment: Mapping[str, str] = {}
) -> str:
    """The id of an image of the container, whose jobs have these variables."""
    repository, tag = name.split(":")
    changes = [f'LABEL {key}="{value}"' for key, value in labels.items()]
    changes += [f'ENV {key}="{value}"' for key, value in environment.items()]
    client.commit(container, repository=repository, tag=tag, changes=changes)
    return str(client.inspect_image(name)["Id"])


def put_tree(
    client: docker.APIClient,
    container: str,
    base: Path,
    more: Mapping[str, bytes] = {},
    *,
    changed: int | None = None,
) -> None:
    """Write the base copy and the scripts that run jobs below /opt/troop, with `more`, files by their paths there.

    `changed`: when the tree's files were, in seconds since 1970, instead of what the disk says. The archive is a file,
    to save memory.
    """
    with tempfile.TemporaryFile() as file:
        _pack(base, file, more, changed)
        file.seek(0)
        client.put_archive(container, "/", file)


def _pack(base: Path, file: IO[bytes], more: Mapping[str, bytes], changed: int | None) -> None:
    def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    def as_changed(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if changed is not None:
            member.mtime = changed
        return owned_by_root(member)

    now = int(time.time())
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder, mode in (("opt", 0o755), ("opt/troop", 0o755), ("repo", 0o1777)):  # the tmpfs takes its mode
            member = tarfile.TarInfo(folder)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, mode, now
            tar.addfile(member)
        tar.add(base, "opt/troop/base", filter=as_changed)
        for name, content in {**_SCRIPTS, **more}.items():
            member = tarfile.TarInfo(f"opt/troop/{name}")
            member.size, member.mode, member.mtime = len(content), 0o644, now
            tar.addfile(member, io.BytesIO(content))
