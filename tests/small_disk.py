"""A small file system of the test's own, which can be filled up, run out of files, or become read-only."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTE = 1 << 20


class SmallDisk:
    """A tmpfs. `root` is where the test's files go; what fills it is beside them."""

    def __init__(self, at: Path) -> None:
        self._at = at
        self.root = at / "data"
        self._fill = at / "fill"

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, at: Path, size: int, files: int) -> Iterator["SmallDisk"]:
        at.mkdir()
        options = f"size={size},nr_inodes={files}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(at)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        try:
            one = cls(at)
            one.root.mkdir()
            one._fill.mkdir()
            yield one
        finally:
            subprocess.run(["umount", "--lazy", str(at)], check=True)

    def fill(self) -> None:
        """Leave no byte."""
        handle = os.open(self._fill / "bytes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.suppress(OSError):
            while True:
                os.write(handle, b"x" * 4096)
        os.close(handle)

    def take_files(self) -> None:
        """Let no file be made."""
        with contextlib.suppress(OSError):
            for number in range(10**6):
                (self._fill / str(number)).touch()

    def protect(self) -> None:
        """Make it read-only, as a kernel does after errors: also for files that are open for writing."""
        subprocess.run(["mount", "-o", "remount,ro", str(self._at)], check=True)

    def free(self) -> None:
        """As it was at first."""
        subprocess.run(["mount", "-o", "remount,rw", str(self._at)], check=True)
        for path in self._fill.iterdir():
            path.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Of 8 MB, for 300 files."""
    with SmallDisk.mounted(tmp_path / "disk", 8 * MEGABYTE, 300) as disk:
        yield disk
