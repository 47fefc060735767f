"""The Python of jobs in tests: that of `JOBS_PYTHON`, or one for sandboxes that has pytest and nothing else.

What a machine's own `python3` has besides are often plugins of pytest, which take a second to load in each of the
thousand runs of a repository's own tests.
"""

import atexit
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import pytest

JOBS_PYTHON = os.environ.get("JOBS_PYTHON", "")  # `bin/python` of an environment with pytest, hypothesis and numpy
_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")


@functools.cache
def lean_python() -> Path:
    """The folder of its programs, to be the first on `PATH`. One for each process of the tests."""
    if JOBS_PYTHON:
        return Path(JOBS_PYTHON).parent
    folder = Path(tempfile.mkdtemp(prefix="troop-test-python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder), "installed_base": str(folder)})
    for file in (file for name in _DISTRIBUTIONS for file in files(name) or () if file.parts[0] != ".."):
        there = Path(paths["purelib"]) / file
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.locate(), there)
    scripts = Path(paths["scripts"])
    warm = (scripts / "python3", "-m", "pytest", "--help")  # and compiled by it
    subprocess.run(warm, cwd=folder, env={}, capture_output=True, check=True)
    return scripts


def use_lean_python(patched: pytest.MonkeyPatch) -> None:
    """`python3` is this Python."""
    patched.setenv("PATH", os.pathsep.join([str(lean_python()), os.environ["PATH"]]))


@pytest.fixture(scope="module", autouse=True)
def lean_path() -> Iterator[None]:
    """For all tests of a file that imports it."""
    with pytest.MonkeyPatch.context() as patched:
        use_lean_python(patched)
        yield
