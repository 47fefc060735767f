import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from bot.atomic import SHARED, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_text(path, "before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_text(path, "after")
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "before"


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "new", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_for_this_user_alone_unless_asked(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "secret", "x")
        write_text(tmp_path / "report", "x", SHARED)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secret", "report")]
    assert modes == [0o600, 0o644]


def test_what_a_killed_process_left_goes_and_nobody_elses(tmp_path: Path) -> None:
    left, under_way, other = (
        tmp_path / f".{name}.part" for name in ("about.json.0a", "about.json.0b", "other.json.0a")
    )
    for path in (left, under_way, other):
        path.write_text("half")
    with under_way.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_text(tmp_path / "about.json", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([under_way, other, tmp_path / "about.json"])


def test_a_sweep_that_comes_before_the_lock_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, swept = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".a.*.part"))
            swept[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "a", "whole")
    assert swept
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_on_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    (tmp_path / ".a.0.part").write_text("half")
    monkeypatch.setattr(fcntl, "flock", refuse)
    write_text(tmp_path / "a", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.0.part", "a"]
