"""What a preparation leaves, and whom it concerns. Real ones, in containers: `test_services.py`."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bot.errors import BuildFailed
from bot.records import FileChange
from bot.sandbox import preparation
from bot.sandbox.preparation import Preparation, differing, key_of, paths_in


def packed(place: Path, *members: tuple[str, bytes | str]) -> Path:
    """An archive; a `str` is what a link leads to."""
    with tarfile.open(place, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
                tar.addfile(member, io.BytesIO(content))
    return place


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    (base / "app").mkdir(parents=True)
    (base / "app/models.py").write_text("m\n")
    (base / "a.py").write_text("x = 1\n")
    (base / "link").symlink_to("app")
    return base


def test_attack_45_of_a_tree_s_archive_only_plain_new_content_is_taken(base: Path, tmp_path: Path) -> None:
    copy = packed(
        tmp_path / "copy.tar",
        ("./a.py", b"x = 1\n"),
        ("./app/models.py", b"n\n"),
        ("./new/run.sh", b"r"),
        ("./new/x.pyc", b"c"),
        ("./out", "/etc/passwd"),
        ("./link/inside.py", b"i"),
        ("./link", b"no link any more"),
        ("./a.py/below.py", b"b"),
        ("../up.py", b"u"),
        ("/etc/passwd", b"p"),
        ("./.git/hooks/post-checkout", b"h"),
    )
    found = differing(copy, base, None)
    assert found == {"app/models.py": (b"n\n", False), "new/run.sh": (b"r", True)}
    assert set(differing(copy, base, ["new/run.sh"])) == {"new/run.sh"}


def test_it_may_not_write_without_end(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_WRITTEN", 3)
    with pytest.raises(BuildFailed, match="leaves too much"):
        differing(packed(tmp_path / "copy.tar", ("./b", b"12"), ("./c", b"34")), base, None)


LISTED = b"/repo/tree\0/repo/tree/app\0/repo/tree/app/models.py\0/repo/tmp/.probe\0/elsewhere\0"


def test_where_files_do_not_tell_whether_they_were_read_nothing_is_known() -> None:
    assert paths_in(LISTED) == {".", "app", "app/models.py"}
    assert paths_in(LISTED.replace(b"probe", b"other")) is None
    assert paths_in(b"") is None


@pytest.mark.parametrize(
    ("path", "text", "listed", "concerned"),
    [
        ("app/models.py", "n\n", LISTED, True),
        ("a.py", "x = 2\n", LISTED, False),
        ("a.py", None, LISTED, True),  # the root was listed
        ("a.py", None, LISTED.replace(b"/repo/tree\0", b""), False),
        ("app/more.py", "", LISTED, True),
        ("app/deep/more.py", "", LISTED, True),
        ("other/more.py", "", LISTED.replace(b"/repo/tree\0", b""), False),
        ("a.py", "x = 2\n", b"", True),
    ],
)
def test_it_concerns_a_candidate_that_changes_what_was_read(
    base: Path, tmp_path: Path, path: str, text: str | None, listed: bytes, concerned: bool
) -> None:
    unused: Any = None
    made = Preparation(unused, unused, base, tmp_path, "", "")
    made.read = paths_in(listed)
    assert made.concerns([FileChange(path=path, text=text)]) is concerned


def test_the_same_changes_are_prepared_once() -> None:
    one, other = FileChange(path="a", text="x"), FileChange(path="b", text=None)
    assert key_of([one, other]) == key_of([other, one])
    assert len({key_of([one]), key_of([one, other]), key_of([one.model_copy(update={"executable": True})])}) == 3
