"""The packages that bugs are planted in: fetched with pip at fixed versions, unpacked, tests apart."""

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pinned:
    """One package of the registry. `tests`: where the archive keeps its tests, relative to its root."""

    name: str
    version: str
    folder: str  # of the import package
    tests: str


PINNED = (
    Pinned("toolz", "1.2.0", "toolz", "toolz/tests"),
    Pinned("more-itertools", "11.2.1", "more_itertools", "tests"),
    Pinned("boltons", "26.2.0", "boltons", "tests"),
)


@dataclass(frozen=True)
class Package:
    """An unpacked package: the files of a checkout, and its tests, which no model sees. By POSIX path."""

    name: str
    files: dict[str, str]
    tests: dict[str, str]


def fetch(pinned: Pinned, folder: Path) -> Package:
    """Download once, then read. Raises `subprocess.CalledProcessError` where pip can't get it."""
    target = folder / f"{pinned.name}-{pinned.version}"
    if not target.is_dir():
        target.mkdir(parents=True)
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        argv += ["--no-binary", ":all:", "--dest", str(target), f"{pinned.name}=={pinned.version}"]
        try:
            subprocess.run(argv, check=True)
        except subprocess.CalledProcessError:
            target.rmdir()
            raise
    with tarfile.open(next(target.glob("*.tar.gz"))) as archive:
        texts = {}
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            path = member.name.partition("/")[2]
            if data is not None and path.endswith((".py", ".pyi", ".md", ".rst", ".toml", ".txt")):
                texts[path] = data.read().decode("utf-8", "replace")
    return split(pinned, texts)


def split(pinned: Pinned, texts: dict[str, str]) -> Package:
    """What the checkout holds (the import package and the read-me), and the tests."""
    inside = f"{pinned.tests}/"
    tests = {path: text for path, text in texts.items() if path.startswith(inside)}
    files = {
        path: text
        for path, text in texts.items()
        if path not in tests and (path.startswith(f"{pinned.folder}/") or path.startswith("README"))
    }
    return Package(name=pinned.name, files=files, tests=tests)
