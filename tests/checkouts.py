"""Makes a `Checkout` record of a folder, for tests of stages."""

import subprocess
from pathlib import Path

from bot.records import Checkout


def checkout_of(root: Path) -> Checkout:
    """A checkout with the regular files that git tracks; without git, all regular files."""
    if (root / ".git").exists():
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
        paths = [root / name for name in listing.split("\0") if name]
    else:
        paths = list(root.rglob("*"))
    plain = [path.relative_to(root).as_posix() for path in paths if path.is_file() and not path.is_symlink()]
    files = tuple(sorted(path for path in plain if path.isprintable()))
    return Checkout(root=str(root), workspace=str(root), commit="0" * 40, files=files)
