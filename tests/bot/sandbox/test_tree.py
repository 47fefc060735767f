import os
from pathlib import Path

import pytest

from bot.records import FileChange
from bot.sandbox.tree import copy_tree, python_path, refused, remove_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for path in ("pkg/a.py", ".git/config", "sub/.git", "pkg/__pycache__/a.pyc", "env/bin/python", "env/pyvenv.cfg"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "tool").write_text("")
    (root / "tool").chmod(0o700)
    (root / "secret").write_text("")
    (root / "secret").chmod(0o600)
    (root / "absolute").symlink_to(root / "tool")
    (root / "out").symlink_to("../outside")
    (root / "around").symlink_to("out")
    (root / "loop").symlink_to("loop")
    (root / "in").symlink_to("pkg/a.py")
    (root / "folder").symlink_to("pkg")
    os.mkfifo(root / "fifo")
    return root


def test_attack_17_only_what_belongs_to_the_tree_is_copied(source: Path, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        copy_tree(source, tmp_path / "copy")
    finally:
        os.umask(old)
    copied = set()
    for folder, folders, files in os.walk(tmp_path / "copy"):
        copied |= {os.path.relpath(os.path.join(folder, name), tmp_path / "copy") for name in folders + files}
    assert copied == {"pkg", "pkg/a.py", "sub", "tool", "secret", "in", "folder", "loop"}
    assert (tmp_path / "copy/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "copy/secret").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "copy/pkg").stat().st_mode & 0o777 == 0o755
    assert os.readlink(tmp_path / "copy/in") == "pkg/a.py"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("pkg/a.py", "x"), ("pkg/new/b.py", "x")], ""),
        ([("in", "x")], ""),
        ([("tool", None), ("tool/x", "x")], ""),
        ([("in", None), ("in/x", "x")], "symbolic link"),
        ([("folder/a.py", "x")], "symbolic link"),
        ([("pkg", "x")], "is a folder"),
        ([("tool/x", "x")], "below the file"),
        ([("new", "x"), ("new/x", "x")], "below another new file"),
        ([("a", "x"), ("a", "y")], "changed twice"),
        ([("../x", "x")], "leads out"),
        ([("/x", "x")], "plain relative path"),
        ([("x" * 2000, "x")], "too long"),
        ([("pkg/.git/hooks/x", "x")], "into .git"),
        ([("pkg/.Git ./x", "x")], "into .git"),
        ([("../x", None)], "leads out"),
    ],
)
def test_attack_17_which_changes_are_refused(
    source: Path, tmp_path: Path, changes: list[tuple[str, str | None]], said: str
) -> None:
    copy_tree(source, tmp_path / "copy")
    reason = refused(tmp_path / "copy", [FileChange(path=path, text=text) for path, text in changes])
    assert said in reason
    assert bool(reason) is bool(said)


def test_the_import_path_has_src_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "lib").write_text("a file")
    assert python_path(tmp_path, "/r") == "/r:/r/src"


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


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["pkg/__init__.py", "tools/py/other/__init__.py"], ""),
        (["src/ns/pkg/__init__.py", "extra/one/__init__.py"], "src"),
        (["python/pkg/__init__.py", "python/pkg/sub/__init__.py", "tests/__init__.py"], "python"),
        (["packages/a/src/a/__init__.py", "packages/b/src/b/__init__.py"], "packages/a/src packages/b/src"),
        (["x/logging/__init__.py", "y/pkg/__init__.py"], "y"),
        (["a/b/c/d/pkg/__init__.py", ".hidden/pkg/__init__.py", "docs/ext/__init__.py"], ""),
        (["one.py", "tests/__init__.py"], ""),
        ([f"p{i}/x{i}/__init__.py" for i in range(12)], " ".join(f"p{i}" for i in (0, 1, 10, 11, 2, 3, 4, 5))),
    ],
)
def test_where_a_repository_of_several_projects_is_imported_from(
    tmp_path: Path, files: list[str], folders: str
) -> None:
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert python_path(tmp_path, "/r").split(":") == ["/r", *(f"/r/{name}" for name in folders.split())]
