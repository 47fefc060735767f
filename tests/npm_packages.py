"""Packages of npm that tests read: `make test` fetches them into `var/`; they are never committed."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent


class NpmPackage(NamedTuple):
    folder: str  # below var/
    name: str
    version: str
    sha256: str

    def text(self, member: str) -> str:
        """One file of it. Skips the test where it was not fetched, which CI takes for a failure."""
        file = ROOT / "var" / self.folder / f"{self.name}-{self.version}.tgz"
        if not file.exists():
            pytest.skip(f"no {self.name}: make {file.relative_to(ROOT)}")
        packed = file.read_bytes()
        assert hashlib.sha256(packed).hexdigest() == self.sha256, "not the package that was looked at"
        with tarfile.open(fileobj=io.BytesIO(packed)) as package:
            found = package.extractfile(f"package/{member}")
            assert found is not None
            return found.read().decode()
