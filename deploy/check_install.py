"""Whether what a plain user installs from PyPI resolves: `make check-install`. Metadata only, no wheel is downloaded.

No setting of this machine reaches it: no local wheel, no other index, no constraint. Both must resolve on every Python
that the Makefile takes:

- the locks, with their hashes, for Linux on both processors and for macOS, from wheels alone;
- the ranges of pyproject.toml, which a library's user gets, with all extras at once, and so with fewer.

Exit 1 where something does not resolve, with the resolver's words.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from install import NEWEST, OLDEST, ROOT
from lock import PYPI

PYTHONS = [f"{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
# llguidance's wheels need glibc 2.31 (Debian 11, Ubuntu 20.04), torch's macOS 14.
PLATFORMS = ["x86_64-manylinux_2_31", "aarch64-manylinux_2_31", "aarch64-apple-darwin"]
WHEELS = ["torch", "run", "dev", "build"]  # bench.txt is llama.cpp's source
MACOS = "14.0"


def plain_environment() -> dict[str, str]:
    """This process's environment without what would lead pip or uv away from PyPI."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "MACOSX_DEPLOYMENT_TARGET": MACOS}


def checks(folder: str) -> Iterator[tuple[str, list[str]]]:
    """What is checked, in words, and uv's arguments for it."""
    index = ["--no-config", "--quiet", "--default-index", PYPI]
    for python in PYTHONS:
        of_python = ["--python-version", python]
        for platform in PLATFORMS:
            files = [f"--requirements=deploy/locks/{name}.txt" for name in WHEELS]
            only = ["--require-hashes", "--only-binary", ":all:", "--dry-run", "--target", folder]
            yield (
                f"locks, Python {python}, {platform}",
                ["install", *index, *of_python, "--python-platform", platform, *only, *files],
            )
        out = [
            "--output-file",
            os.path.join(folder, "resolved.txt"),
            "--no-header",
            "--upgrade",
            "--python-platform",
            "linux",
        ]
        yield (
            f"pyproject.toml with every extra, Python {python}",
            ["compile", *index, *of_python, *out, "--all-extras", "pyproject.toml"],
        )


def main() -> None:
    uv, environment, failed = Path(sys.executable).with_name("uv"), plain_environment(), []
    with tempfile.TemporaryDirectory() as folder:
        for words, arguments in checks(folder):
            done = subprocess.run(
                [str(uv), "pip", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            print("ok    " if done.returncode == 0 else "FAILED", words, flush=True)
            if done.returncode:
                print(done.stderr, flush=True)
                failed.append(words)
    if failed:
        raise SystemExit(f"{len(failed)} of these do not resolve from PyPI")


if __name__ == "__main__":
    main()
