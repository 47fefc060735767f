"""What must happen before tests, such as migrations: a command that runs once, and not before each test.

It runs on the base commit when the sandbox opens. What it leaves in the servers' data, and the files that it writes,
are what every job begins with. For a candidate that changes what it read it runs again, on the candidate's own tree and
empty data, in a container of its own: nothing of that is beside the candidate's judge but the servers' data, and what
is in files that the base commit's command had written as well, which judge nobody.

Blocking: used from threads.
"""

import contextlib
import hashlib
import io
import os
import tarfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import docker

from bot.errors import BuildFailed, SandboxError
from bot.patch.paths import path_problem
from bot.patch.protected_files import is_judge
from bot.records import Ending, Execution, FileChange
from bot.sandbox import docker_engine, images
from bot.sandbox import services as servers
from bot.sandbox.containers import Broken, Container, Prepared
from bot.sandbox.exec_stream import Stream
from bot.sandbox.output import Capped
from bot.sandbox.tree import exists_in
from bot.settings import SandboxSettings

_EXPORTED = 2 << 30  # bytes of a tree, or of data
_PRINTED = 64 << 20  # bytes that are read into memory
_WRITTEN = 200_000_000  # bytes of files that it may write
_TOO_MUCH = "the repository's `prepare` command leaves too much"
_EXPORTING = 120.0  # seconds
_LAG = "0.05"  # seconds, more than the kernel's clock of files is behind
# Files tell by their times whether they were read after a mark, where the probe does.
_SCRIPT = (
    f"cd /repo/tmp && echo it >.probe && sleep {_LAG} && : >.mark && sleep {_LAG} && read -r line <.probe; "
    'cd /repo/tree && sh -e -c "$1" </dev/null'
)
_END = "kill -9 -1"  # what the command left running: all processes of its user but this one
_FIND = "find /repo/tree /repo/tmp/.probe -anewer /repo/tmp/.mark -print0"


class Ready(NamedTuple):
    """What a candidate's jobs begin with."""

    image: str = ""  # "": as those of the base commit
    changes: tuple[FileChange, ...] = ()  # besides the candidate's

    def onto(self, job: Prepared) -> Prepared:
        if not self.image and not self.changes:
            return job
        changes = {one.path: one for one in (*job.changes, *self.changes)}
        return job.model_copy(update={"image": self.image, "changes": tuple(changes.values())})


class _Left(NamedTuple):
    """What the command leaves."""

    execution: Execution
    read: frozenset[str] | None = None  # files and folders of the tree; None: not known
    written: Mapping[str, tuple[bytes, bool]] = {}  # files that are other than in the base copy; which may be run


def argv(command: str) -> tuple[str, ...]:
    """That carries the command out in a job."""
    return ("sh", "-c", _SCRIPT, "prepare", command)


def unusable(error: SandboxError) -> Execution:
    """Of a job of a candidate, where what its preparation does or leaves keeps containers from working."""
    said = f"no test can run on what the repository's `prepare` command does here: {error}"
    return Execution(ending=Ending.UNAVAILABLE, output=said)


def key_of(changes: Sequence[FileChange]) -> str:
    """The same for the same tree."""
    parts = sorted(f"{one.path}\0{one.executable}\0{one.encoding}\0{one.text}" for one in changes)
    return hashlib.sha256("\0\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


class Preparation:
    """Of one sandbox. `base`: its copy of the tree on disk, which gets the files that the command writes.

    `image`: of the tree, with the servers' data empty; `run`: the label by which the sandbox destroys its containers.
    """

    def __init__(
        self, client: docker.APIClient, settings: SandboxSettings, base: Path, scratch: Path, image: str, run: str
    ) -> None:
        self._client = client
        self._settings = settings
        self._base = base
        self._scratch = scratch
        self._image = image
        self._run = run
        self.read: frozenset[str] | None = None
        self._written: frozenset[str] = frozenset()
        self.seconds = 0.0  # that it took on the base commit
        self.images: list[str] = []  # that were made, for whoever removes them

    def on_base(self, job: Prepared, beside: servers.Beside) -> Execution:
        """Run it on the base commit. Where it passes, the last of `images` is the one that jobs begin with.

        Raises `Broken`, what the SDK raises, and `BuildFailed` where it leaves too much.
        """
        data = self._scratch / "prepared-base.tar"
        left = self._carried_out(job, beside, data, None)
        self.seconds = left.execution.seconds
        if left.execution.passed:
            self.read, self._written = left.read, frozenset(left.written)
            for path, (content, executable) in left.written.items():
                _write(self._base / path, content, executable)
            self.images.append(self._made(data if beside.services else None, left.written))
        data.unlink(missing_ok=True)
        return left.execution

    def concerns(self, changes: Sequence[FileChange]) -> bool:
        """Whether a candidate with these changes needs a run of its own: it changes what the command read."""
        return self.read is None or any(self._was_read(one, self.read) for one in changes)

    def _was_read(self, change: FileChange, read: frozenset[str]) -> bool:
        if change.path in read or change.path in self._written:
            return True
        if change.text is not None and exists_in(self._base, change.path):
            return False
        # A file that is new or gone: who lists its folder sees that.
        above = next((one for one in PurePosixPath(change.path).parents if exists_in(self._base, str(one))), None)
        return above is None or str(above) in read

    def on_candidate(self, job: Prepared, beside: servers.Beside) -> Ready | Execution:
        """What the candidate's jobs begin with, or how the command failed on it. Raises as `on_base`."""
        data = self._scratch / f"prepared-{os.urandom(8).hex()}.tar"
        try:
            left = self._carried_out(job, beside, data, self._written)
            if not left.execution.passed:
                said = f"[the repository's `prepare` command does not pass here]\n{left.execution.output}"
                return left.execution.model_copy(update={"output": said})
            image = self._made(data, self._base_files()) if beside.services else ""
        finally:
            data.unlink(missing_ok=True)
        if image:
            self.images.append(image)
        changes = tuple(
            FileChange(path=path, text=content.decode("utf-8", "surrogateescape"), executable=executable)
            for path, (content, executable) in left.written.items()
            if not is_judge(path, lambda one: exists_in(self._base, one))
        )
        return Ready(image, changes)

    def forget(self, image: str) -> None:
        """Remove an image of a candidate's."""
        with contextlib.suppress(*docker_engine.TROUBLE):
            self._client.remove_image(image)
            self.images.remove(image)

    def close(self) -> None:
        """Remove the images. Containers of theirs must be gone."""
        for image in reversed(self.images):
            with contextlib.suppress(*docker_engine.TROUBLE):
                self._client.remove_image(image, force=True)
        self.images.clear()

    def _carried_out(self, job: Prepared, beside: servers.Beside, data: Path, only: Collection[str] | None) -> _Left:
        container = Container(self._client, self._image, self._settings, self._run, beside)
        try:
            execution, _ = container.run(job)
            if not execution.passed:
                return _Left(execution)
            self._output_of(container, ["sh", "-c", _END], container.user)
            read = paths_in(self._output_of(container, ["sh", "-c", _FIND], container.user)) if only is None else None
            copy = self._scratch / f"{data.stem}-tree.tar"
            try:
                self._output_of(container, ["tar", "-c", "-f", "-", "-C", "/repo/tree", "."], container.user, copy)
                written = differing(copy, self._base, only)
            finally:
                copy.unlink(missing_ok=True)
            if beside.services:
                user = f"{servers.USER}:{servers.USER}"
                self._output_of(container, servers.stopping(beside.services, servers.PLACE), user)
                self._output_of(container, ["tar", "-c", "-f", "-", "-C", servers.PLACE, "."], user, data)
            return _Left(execution, read, written)
        finally:
            container.destroy()

    def _output_of(self, container: Container, words: Sequence[str], user: str, file: Path | None = None) -> bytes:
        """What the command prints, or (with a `file`, which gets it) nothing. Raises `Broken` where it fails,
        `BuildFailed` beyond `_PRINTED`, or `_EXPORTED` in a file.

        It begins once it is written to, as of `Container`: the SDK loses what arrives with the head of the answer.
        """
        waiting = ["sh", "-c", 'read -r go; exec "$@"', "sh", *words]
        execution = self._client.exec_create(container.id, waiting, stdin=True, stderr=False, user=user)["Id"]
        with contextlib.ExitStack() as stack:
            stream = Stream(self._client.exec_start(execution, socket=True), 1)
            stack.callback(stream.close)
            memory = io.BytesIO()
            kept = _Whole(stack.enter_context(file.open("wb")), _EXPORTED) if file else _Whole(memory, _PRINTED)
            stream.output = kept
            stream.send(b"\n", _EXPORTING)
            ended = stream.read(time.monotonic() + _EXPORTING)
        if kept.flooded:
            raise BuildFailed(_TOO_MUCH, why=f"more than {kept.most:,} bytes")
        if not ended or (container.exit_code(execution) and words[-1] not in (_END, _FIND)):
            raise Broken(f"`{words[0]}` of what was prepared failed")
        return memory.getvalue()

    def _base_files(self) -> dict[str, tuple[bytes, bool]]:
        """What the command wrote on the base commit."""
        found = {path: self._base / path for path in self._written}
        return {path: (file.read_bytes(), os.access(file, os.X_OK)) for path, file in found.items()}

    def _made(self, data: Path | None, files: Mapping[str, tuple[bytes, bool]]) -> str:
        """The id of an image with that data, and with those files in the tree."""
        return images.with_prepared(self._client, self._image, data, files)


class _Whole(Capped):
    """Keeps all in a file, up to `most` bytes."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        super().__init__(0)
        self._file = file
        self.most = most

    def add(self, data: bytes) -> None:
        self.total += len(data)
        if not self.flooded:
            self._file.write(data)

    @property
    def flooded(self) -> bool:
        return self.total > self.most


def paths_in(listed: bytes) -> frozenset[str] | None:
    """What `_FIND` lists; None where files' times say nothing, or there is no such program."""
    found = {os.fsdecode(path) for path in listed.split(b"\0") if path}
    if "/repo/tmp/.probe" not in found:
        return None
    root = "/repo/tree"
    return frozenset(path.removeprefix(f"{root}/") if path != root else "." for path in found if path.startswith(root))


def differing(copy: Path, base: Path, only: Collection[str] | None) -> dict[str, tuple[bytes, bool]]:
    """Files in the archive of a tree that are other than in the base copy, or not there. Of `only` these paths.

    Links, byte code, and what is behind links are left out. Raises `BuildFailed` beyond `_WRITTEN`.
    """
    found: dict[str, tuple[bytes, bool]] = {}
    left = _WRITTEN
    with tarfile.open(copy, "r:") as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            if not member.isreg() or path_problem(path) or path.endswith(".pyc"):
                continue
            if (only is not None and path not in only) or not _is_plain(base, path):
                continue
            file = tar.extractfile(member)
            assert file is not None, "a regular file has content"
            there = base / path
            if there.is_file() and there.stat().st_size == member.size and there.read_bytes() == file.read():
                continue
            left -= member.size
            if left < 0:
                raise BuildFailed(_TOO_MUCH, why=f"it writes more than {_WRITTEN:,} bytes")
            file.seek(0)
            found[path] = file.read(), bool(member.mode & 0o100)
    return found


def _is_plain(base: Path, path: str) -> bool:
    """Whether the base copy has a file there or nothing, and no link above."""
    place = base / path
    above = [base.joinpath(*PurePosixPath(path).parts[:depth]) for depth in range(1, len(PurePosixPath(path).parts))]
    if any(one.is_symlink() or (one.exists() and not one.is_dir()) for one in above):
        return False
    return not place.is_symlink() and (place.is_file() or not place.exists())


def _write(path: Path, content: bytes, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)
