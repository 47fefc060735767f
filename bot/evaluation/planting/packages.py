"""Packages that bugs are planted in: fetched with pip, unpacked, tests apart."""

import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bot.errors import EvaluationError

_TEXT = (".py", ".pyi", ".md", ".rst", ".toml", ".txt", ".cfg")
_LARGEST = 2_000_000  # bytes of one file
_SOURCE_FOLDERS = ("", "src/", "lib/")


@dataclass(frozen=True)
class Pinned:
    """One package of the registry. `tests`: where the archive keeps its tests, relative to its root."""

    name: str
    version: str
    folder: str  # of the import package
    tests: str


@dataclass(frozen=True)
class Package:
    """An unpacked package: the files of a checkout, and its tests, which no model sees. By POSIX path."""

    name: str
    files: dict[str, str]
    tests: dict[str, str]


def fetch(requirement: str, folder: Path) -> dict[str, str]:
    """The text files of a source distribution, by path below its root; downloaded once. `requirement`: `name==version`.

    Raises `EvaluationError` where pip can't get it.
    """
    return unpack(download(requirement, folder / requirement.replace("==", "-")))


def download(requirement: str, folder: Path) -> Path:
    """The archive of a source distribution, the only one in its folder; downloaded where it is not there yet.

    Raises `EvaluationError` where pip can't get it.
    """
    if not any(folder.glob("*.tar.gz")):
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        argv += ["--no-binary", requirement.partition("==")[0], "--dest", str(folder), requirement]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode or not any(folder.glob("*.tar.gz")):
            said = done.stderr.strip().splitlines()
            raise EvaluationError(f"pip can't get the source of {requirement}: {said[-1] if said else 'no .tar.gz'}")
    return next(folder.glob("*.tar.gz"))


def unpack(archive: Path) -> dict[str, str]:
    """The text files of an archive, by path below its one top folder. Nothing is written to disk.

    Raises `EvaluationError` for a path that leads out of the folder.
    """
    texts = {}
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/")[2]
            if ".." in PurePosixPath(path).parts or path.startswith("/"):
                raise EvaluationError(f"{archive.name} has a file outside of its folder: {member.name}")
            if member.isfile() and path.endswith(_TEXT) and member.size <= _LARGEST:
                data = members.extractfile(member)
                texts[path] = data.read().decode("utf-8", "replace") if data is not None else ""
    return texts


def pinned_of(requirement: str, texts: Mapping[str, str]) -> Pinned:
    """Where a package keeps its code and its tests. Raises `EvaluationError` where it has no package of its name."""
    name, _, version = requirement.partition("==")
    wanted = re.sub(r"[-_.]+", "_", name).lower()
    folders = {
        f"{source}{part}"
        for source in _SOURCE_FOLDERS
        for path in texts
        if path.startswith(source)
        if len(rest := PurePosixPath(path.removeprefix(source)).parts) == 2
        if rest[1] == "__init__.py"
        for part in rest[:1]
    }
    fitting = [folder for folder in folders if folder.rpartition("/")[2].lower() == wanted]
    code = {folder for folder in folders if folder.rpartition("/")[2] not in ("tests", "test", "docs", "examples")}
    if not fitting and len(code) != 1:
        there = ", ".join(sorted(code)) or "none"
        raise EvaluationError(f"{requirement} has no package named {wanted}; its packages are: {there}")
    folder = fitting[0] if fitting else code.pop()
    places = [f"{folder}/tests", f"{folder}/test", "tests", "test"]
    tests = next((place for place in places if any(path.startswith(f"{place}/") for path in texts)), "tests")
    return Pinned(name, version, folder, tests)


def split(pinned: Pinned, texts: Mapping[str, str]) -> Package:
    """What the checkout holds (the import package, at its top, and the read-me), and the tests."""
    source = f"{pinned.folder.rpartition('/')[0]}/" if "/" in pinned.folder else ""
    tests, files = {}, {}
    for path, text in texts.items():
        if path.startswith(f"{pinned.tests}/"):
            tests[path.removeprefix(source)] = text
        elif path.startswith((f"{pinned.folder}/", "README")):
            files[path.removeprefix(source)] = text
    return Package(name=pinned.name, files=files, tests=tests)


def write_tree(files: Mapping[str, str], root: Path) -> None:
    """The files below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
