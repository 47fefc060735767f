import os
import subprocess
from pathlib import Path

import pytest

from bot.git import build_artifacts
from bot.git.build_artifacts import copy_built, is_built, remove_built


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/pkg/_version.py", True),
        ("src/pkg.egg-info/PKG-INFO", True),
        ("pkg/_speedups.cpython-311-x86_64-linux-gnu.so", True),
        ("node_modules/left-pad/index.js", True),
        (".env", False),
        ("secrets.py", False),
        (".venv/lib/python3.11/site-packages/x/_version.py", False),
        ("build/lib/pkg/_version.py", False),
        ("packages/a/node_modules/b/index.js", False),
    ],
)
def test_what_a_build_writes(path: str, expected: bool) -> None:
    assert is_built(path) is expected


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    files = {
        ".gitignore": "_version.py\n*.egg-info\n.env\nnode_modules\n",
        "src/pkg/__init__.py": "from pkg._version import version\n",
        "src/pkg/_version.py": "version = '1'\n",
        "src/pkg.egg-info/PKG-INFO": "Name: pkg\n",
        ".env": "TOKEN=secret\n",
        "node_modules/a/index.js": "1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "node_modules" / ".bin").mkdir()
    (folder / "node_modules" / ".bin" / "a").symlink_to("../a/index.js")
    (folder / "node_modules" / "out").symlink_to("/etc/passwd")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


async def test_copied_and_taken_out_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "tree"
    (target / "src" / "pkg").mkdir(parents=True)
    (target / "src" / "pkg" / "__init__.py").write_text("")
    before = sorted(target.rglob("*"))
    copied, left_out = await copy_built(source, target)
    expected = ("node_modules/.bin/a", "node_modules/a/index.js", "src/pkg.egg-info/PKG-INFO", "src/pkg/_version.py")
    assert (copied, left_out) == (expected, "")
    assert (target / "src/pkg/_version.py").read_text() == "version = '1'\n"
    assert os.readlink(target / "node_modules/.bin/a") == "../a/index.js"
    remove_built(target, copied)
    assert sorted(target.rglob("*")) == before


async def test_nothing_is_overwritten_and_size_is_capped(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tree"
    (target / "src" / "pkg").mkdir(parents=True)
    (target / "src/pkg/_version.py").write_text("ours\n")
    copied, _ = await copy_built(source, target)
    assert "src/pkg/_version.py" not in copied
    assert (target / "src/pkg/_version.py").read_text() == "ours\n"
    remove_built(target, copied)
    monkeypatch.setattr(build_artifacts, "MAX_BYTES", 5)
    copied, left_out = await copy_built(source, target)
    assert copied == ("node_modules/.bin/a", "node_modules/a/index.js")
    assert "from src/pkg.egg-info/PKG-INFO on" in left_out


async def test_no_repository_has_nothing(tmp_path: Path) -> None:
    assert await copy_built(tmp_path, tmp_path / "tree") == ((), "")
