"""A GGUF file as a folder that `transformers` loads: dequantised once, kept in a cache.

A conversion is written into a temporary folder and renamed when it is complete, so that the final name never holds half
of one. A lock lets several engines that start together convert only once.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import LoadError, reason
from engine.weights.gguf_file import GGUFFile, read_gguf

FORMAT = 1  # of the converted format; folders of other versions are made again
SAMPLES, SAMPLE = 64, 1 << 16  # pieces of a file that its key looks at, and bytes in each
SPARE = 256 << 20  # bytes for tokenizer and configuration, and left on the disk


def default_cache() -> Path:
    """Where converted models are kept by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troop" / "models"


def converted(
    path: Path, cache: Path, check: Callable[[Path], object], longest: int | None, say: Callable[[str], None]
) -> Path:
    """The folder of the model in a GGUF file: from the cache, after converting it if needed.

    Args:
        path: the file.
        cache: folder of all conversions.
        check: raises `LoadError` if a folder is not a complete model; cached folders are checked, too.
        longest: see `engine.model.features.check_config`.
        say: prints what takes long.

    Raises:
        LoadError: the file can't be converted, or there is no room for it.
    """
    from engine.weights.gguf_config import check_architecture

    file = read_gguf(path)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.removesuffix(".gguf"))[:80]
    try:
        target = cache.expanduser() / f"{stem}-{_key(file)}"
        if _whole(target, check):
            return target
        check_architecture(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.lock"), say, path) as alone:
            if not _whole(target, check):
                if alone:
                    _remove_parts(target)
                _convert(file, target, longest, say)
    except OSError as error:
        raise LoadError(
            f"{cache} cannot keep the converted model: {reason(error)}; name another folder by --model-cache"
        ) from error
    return target


def _key(file: GGUFFile) -> str:
    """A key for a file and this version's conversion of it.

    A start must not read a file of gigabytes whole, so this looks at the size, the time of the last change, the head
    and samples all over the tensors. The time catches a download that went on, or a change between the samples.
    """
    import transformers

    seen = hashlib.blake2b(digest_size=8)
    seen.update(f"{FORMAT} {transformers.__version__} {file.size} {file.path.stat().st_mtime_ns}".encode())
    with file.path.open("rb") as stream:
        seen.update(stream.read(file.head))
        for index in range(SAMPLES):
            stream.seek(file.head + (file.size - file.head) * index // SAMPLES)
            seen.update(stream.read(SAMPLE))
    return seen.hexdigest()


def _whole(folder: Path, check: Callable[[Path], object]) -> bool:
    """Whether the folder holds a complete, undamaged conversion."""
    if not folder.is_dir():
        return False
    try:
        check(folder)
    except LoadError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


@contextlib.contextmanager
def _locked(file: Path, say: Callable[[str], None], path: Path) -> Iterator[bool]:
    """Hold a lock that ends with this process, however it ends. Yields whether there is one: if not, every engine
    converts.

    The lock's file is kept: if it were removed, one engine could hold the old file and another the new one.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield False
        return
    with file.open("w") as stream:
        held = True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another engine converts {path.name}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            held = False
        yield held


def _remove_parts(target: Path) -> None:
    """Remove the remains of conversions that were killed."""
    for part in target.parent.glob(f".{target.name}.part*"):
        shutil.rmtree(part, ignore_errors=True)


def _convert(file: GGUFFile, target: Path, longest: int | None, say: Callable[[str], None]) -> None:
    from engine.weights.gguf_config import translated_config
    from engine.weights.gguf_tokenizer import write_tokenizer
    from engine.weights.gguf_weights import kept_type, write_weights

    began = time.monotonic()
    dtype = kept_type(file)
    _check_room(file, target.parent, dtype.itemsize)
    say(f"converting {file.path.name} ({file.architecture}, {file.numbers / 1e9:.2g} billion numbers), once")
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.part", dir=target.parent))
    try:
        write_tokenizer(file, part)
        config = translated_config(file, longest)
        config.dtype = dtype
        total = write_weights(file, config, part, say)
        config.save_pretrained(part)
        (part / "source.json").write_text(json.dumps({"file": str(file.path.resolve()), "bytes": file.size}))
        for written in part.iterdir():
            written.chmod(0o644)  # like the other files here: a cache may be shared
            with written.open("rb") as stream:
                os.fsync(stream.fileno())
        _publish(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _drop_older(file, target)
    say(f"converted in {time.monotonic() - began:.0f} s: {total / 1e9:.1f} GB in {target}")


def _publish(part: Path, target: Path) -> None:
    """Give a complete conversion its final name."""
    part.chmod(0o755)
    try:
        part.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another engine was faster, without locks
            raise


def _drop_older(file: GGUFFile, target: Path) -> None:
    """Remove conversions of earlier contents of the same file: no engine would use them again."""
    for other in target.parent.glob("*/source.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            said = json.loads(other.read_text())
            if other.parent != target and said.get("file") == str(file.path.resolve()):
                shutil.rmtree(other.parent, ignore_errors=True)


def _check_room(file: GGUFFile, cache: Path, item: int) -> None:
    need, free = file.numbers * item + SPARE, shutil.disk_usage(cache).free
    if free < need:
        raise LoadError(
            f"{file.path.name} takes {need / 1e9:.1f} GB converted and {cache} has {free / 1e9:.1f} GB free: "
            "make room, or name another folder by --model-cache"
        )
