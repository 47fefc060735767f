import errno
import os
from pathlib import Path

import pytest

from bot.records import FileChange
from bot.sandbox.tree import copy_tree, marks_of, python_path, refused, roots_of


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


@pytest.mark.parametrize("error", [0, errno.EXDEV, errno.ENOSYS])
def test_content_and_times_are_copied_with_or_without_the_kernels_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: int) -> int:
        raise OSError(error, "not here")

    if error:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    contents = {"empty": b"", "text": "é\n".encode(), "large": os.urandom(3 << 20)}
    (tmp_path / "source").mkdir()
    for name, content in contents.items():
        (tmp_path / "source" / name).write_bytes(content)
        os.utime(tmp_path / "source" / name, ns=(7, 1_000_000_007))
    assert copy_tree(tmp_path / "source", tmp_path / "copy") == sum(map(len, contents.values()))
    for name, content in contents.items():
        assert (tmp_path / "copy" / name).read_bytes() == content
        assert (tmp_path / "copy" / name).stat().st_mtime_ns == 1_000_000_007


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
        ([("../x", "x")], "not a plain path"),
        ([("/x", "x")], "not relative"),
        ([("x" * 2000, "x")], "longer than"),
        ([("pkg/.git/hooks/x", "x")], "git's own folder"),
        ([("pkg/.Git ./x", "x")], "git's own folder"),
        ([("../x", None)], "not a plain path"),
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
    (tmp_path / "src" / "mod.py").write_text("")
    (tmp_path / "lib").write_text("a file")
    (tmp_path / "one" / "src" / "pkg").mkdir(parents=True)
    (tmp_path / "one" / "setup.py").write_text("")
    (tmp_path / "one" / "src" / "pkg" / "__init__.py").write_text("")
    assert python_path(roots_of(tmp_path), "/r") == "/r:/r/src:/r/one/src"


@pytest.mark.parametrize(
    ("before", "marks"),
    [
        ("x = 1", {}),
        ("frame = sys._getframe(1)", {"a.py": "f"}),
        ("inspect.getsource(function)", {"a.py": "f"}),
        ("gc.get_objects()", {"a.py": "c"}),
        ("sys.settrace(f)", {"a.py": "ft"}),
        ("import ctypes", {"a.py": "p"}),
        ("sys.modules[cls.__module__]", {"a.py": "m"}),
        ('sys.modules["json"]', {}),
        ("pdb.Pdb.__init__ = init\nself.x = 1\nx.y == 2", {"a.py": "\tPdb.__init__"}),
        ("import ctypes\nsetattr(time, 'sleep', wait)\nos.environ: Any = {}", {"a.py": "p\ttime.sleep"}),
        (None, {}),
    ],
)
def test_what_a_file_did_before_is_marked(before: str | None, marks: dict[str, str], tmp_path: Path) -> None:
    if before is not None:
        (tmp_path / "a.py").write_text(before)
    assert marks_of(tmp_path, [FileChange(path="a.py", text="sys._getframe(1), gc.get_objects()")]) == marks
