import ast
import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import bot.scratch
from bot.scratch import ScratchFolder, remove_tree, sweep


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    alive = ScratchFolder()
    code = (
        f"import os, signal, tempfile; tempfile.tempdir = {str(tmp_path / 'temporary')!r}\n"
        "from bot.scratch import ScratchFolder\n"
        "left = ScratchFolder(); print(left.path.name)\n"
        "(left.path / 'base').mkdir(); (left.path / 'base' / 'file').write_text('')\n"
        "import sys; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    assert (tmp_path / "temporary" / name / "base" / "file").exists()
    for controller in ("memory", "pids"):
        (tmp_path / "groups" / controller / f"{name}-0").mkdir(parents=True)
    (tmp_path / "temporary" / "troop-sandbox-not-ours").mkdir()  # it has no lock

    assert sweep(tmp_path / "temporary", tmp_path / "groups") == 1
    assert {path.name for path in (tmp_path / "temporary").iterdir()} == {alive.path.name, "troop-sandbox-not-ours"}
    assert not list((tmp_path / "groups").glob("*/*"))
    alive.close()
    alive.close()
    assert not alive.path.exists()


def test_what_a_killed_removal_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight such folders lay on a machine for days: the lock had gone first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = ScratchFolder()
    for name in ("a", "z"):
        (scratch.path / name / "in").mkdir(parents=True)
    whole = bot.scratch.remove_tree

    def killed(path: Path) -> None:
        if path.name == "z":
            raise KeyboardInterrupt
        whole(path)

    monkeypatch.setattr("bot.scratch.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        scratch.close()
    monkeypatch.undo()
    assert (scratch.path / "lock").exists()
    os.close(scratch._lock)
    for name in ("troop-sandbox-old", "troop-sandbox-new"):
        (tmp_path / name / "base").mkdir(parents=True)
    os.utime(tmp_path / "troop-sandbox-old", (1, 1))
    assert sweep(tmp_path, tmp_path / "groups") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["troop-sandbox-new"]


def test_what_earlier_versions_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    for name in ("troop-git-old", "troop-index-old", "troop-git-new", "others-git-old"):
        (tmp_path / name / "in").mkdir(parents=True)
        os.utime(tmp_path / name, (1, 1) if name.endswith("old") else None)
    (tmp_path / "troop-git-link").symlink_to(tmp_path / "others-git-old")
    os.utime(tmp_path / "troop-git-link", (1, 1), follow_symlinks=False)
    assert sweep(tmp_path, tmp_path / "groups") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"troop-git-new", "others-git-old", "troop-git-link"}


async def test_a_cancelled_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cancelled = threading.Event()
    monkeypatch.setattr("bot.scratch.sweep", lambda parent: cancelled.wait())
    starting = asyncio.ensure_future(ScratchFolder.fresh())
    await asyncio.sleep(0)  # it looks for what is to be swept
    starting.cancel()
    cancelled.set()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert not list(tmp_path.iterdir())


def test_no_other_folder_is_made_that_nobody_would_sweep() -> None:
    bot = Path(__file__).parents[2] / "bot"
    makers = {"TemporaryDirectory", "mkdtemp"}
    found = set()
    for path in bot.rglob("*.py"):
        names = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute | ast.Name))
        if any((node.attr if isinstance(node, ast.Attribute) else node.id) in makers for node in names):
            found.add(path.relative_to(bot).as_posix())
    assert found == {"scratch.py", "capuchin/training/evaluate.py"}  # the second is no part of a server


def test_what_a_job_made_hard_to_remove_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (deep / "link").symlink_to(outside)
    for folder in (deep, deep.parent, deep.parent.parent):
        folder.chmod(0)
    remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert outside.exists()
