"""Finds the `python3` that the process sandbox uses, and the folders that it needs."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from bot.records import Record

_OLDEST = (3, 5)
WATCHED = (3, 8)  # the first with audit hooks
# As people name them, the usual one first.
_ENVIRONMENTS = (".venv", "venv", "env", ".env", "virtualenv", ".virtualenv")
_ASK = (
    "import json, sys\n"
    "try: from _frozen_importlib_external import MAGIC_NUMBER as magic\n"
    "except ImportError: magic = b''\n"
    "print(json.dumps([sys.version_info[:2], magic.hex(), sys.executable, sys.prefix, sys.base_prefix]))"
)


class Python(Record):
    """A Python interpreter of this machine."""

    executable: str  # the real program, not a shim of a version manager
    prefixes: tuple[str, ...]  # folders that hold it and its packages
    version: tuple[int, int] = sys.version_info[:2]
    magic: str = MAGIC_NUMBER.hex()  # which compiled files it can use

    def needs(self, path: str, home: str) -> list[str]:
        """Folders that must stay visible where home, /tmp and /run are hidden; outer ones first, without duplicates."""
        wanted = [*self.prefixes, os.path.dirname(os.path.realpath(self.executable))]
        for entry in path.split(os.pathsep):
            above = os.path.dirname(entry)
            # Most programs need more than `bin`: keep the folder above, unless that is a whole hidden folder.
            wanted.append(entry if above in (home, "/", "/tmp", "/run") else above)  # noqa: S108
        kept: list[str] = []
        for folder in sorted({os.path.abspath(folder) for folder in wanted if folder}):
            if folder not in (home, "/") and not any(folder.startswith(other + "/") for other in kept):
                kept.append(folder)
        return kept


def find_python(source: Path) -> tuple[Python, str]:
    """The interpreter for tests of the checkout, and the PATH of jobs.

    The programs of the checkout's virtual environment (`.venv`, `venv` or `env`), or of that of the repository that it
    is a folder of, come first, then the caller's PATH, then the folder of the interpreter that runs Troop. It is also
    taken where the first `python3` is missing, broken or older than 3.5.
    """
    own = _environment_of(source.resolve())
    entries = [str(own)] if own is not None else []
    entries += [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(entry)]
    entries.append(os.path.dirname(sys.executable))
    path = os.pathsep.join(dict.fromkeys(entries))
    found = shutil.which("python3", path=path)
    python = _ask(found, path) if found else None
    if python is None:
        python = Python(executable=sys.executable, prefixes=(sys.prefix, sys.base_prefix))
    # The program may be outside PATH (behind a version manager's shim): let commands find the same one.
    folder = os.path.dirname(python.executable)
    return python, os.pathsep.join(dict.fromkeys([*([] if own is None else [str(own)]), folder, *entries]))


def _environment_of(source: Path) -> Path | None:
    """The programs of the nearest virtual environment: in the folder, or in one above it in the same repository."""
    above = (source, *source.parents)
    top = next((folder for folder in above if (folder / ".git").exists()), source)  # what is higher is others'
    for folder in above[: above.index(top) + 1]:
        for name in _ENVIRONMENTS:
            programs = folder / name / "bin"
            # A folder with another name may be anything, if `venv` has not written its file there.
            if programs.is_dir() and (name == ".venv" or (folder / name / "pyvenv.cfg").is_file()):
                return programs
    return None


def _ask(program: str, path: str) -> Python | None:
    """The interpreter behind `program`, or None where it fails or is too old."""
    try:
        done = subprocess.run(
            [program, "-I", "-c", _ASK], capture_output=True, timeout=20, check=True, env=_caller(path), cwd="/"
        )
        version, magic, executable, *prefixes = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if tuple(version) < _OLDEST:
        return None
    return Python(executable=executable, prefixes=tuple(dict.fromkeys(prefixes)), version=tuple(version), magic=magic)


def _caller(path: str) -> dict[str, str]:
    """The environment for a version manager's shim: HOME and its own variables. No code of the checkout is run."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PYENV", "ASDF", "MISE", "HOME"))}
    return {**kept, "PATH": path}
