"""Why a file can't be written is told with what to do."""

import os
from pathlib import Path

import pytest

from bot.errors import StoreUnavailable
from bot.store import Store
from bot.store.disk import unwritable, unwritable_sqlite

PLENTY = {"f_frsize": 4096, "f_bavail": 10**6, "f_files": 10**6, "f_favail": 10**6, "f_flag": 0}


class Disk:
    """What `os.statvfs` tells."""

    def __init__(self, **told: int) -> None:
        vars(self).update(PLENTY | told)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"f_bavail": 0}, "is full: free some of it"),
        ({"f_bavail": 255}, "is full: free some of it"),
        ({"f_favail": 0}, "takes no more files: remove some"),
        ({"f_files": 0, "f_favail": 0}, ""),  # of file systems that do not count them
        ({"f_flag": os.ST_RDONLY}, "is read-only: mount it writable"),
        ({}, ""),
    ],
)
def test_what_a_disk_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, int], words: str) -> None:
    monkeypatch.setattr("bot.store.disk.os.statvfs", lambda path: Disk(**told))
    found = unwritable(tmp_path / "not" / "yet" / "file")
    assert words in found
    assert bool(found) == bool(words)
    assert not words or str(tmp_path) in found


def test_what_belongs_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "of-others"
    file.touch()
    monkeypatch.setattr("bot.store.disk.os.access", lambda path, mode: path != file)
    assert unwritable(file).startswith(f"{file} can't be written by user {os.geteuid()}: give it to that user")
    assert unwritable(tmp_path / "another") == ""
    assert unwritable(file / "below").endswith("is not a folder")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_what_a_command_of_another_user_left_beside_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    file = tmp_path / "x.sqlite3"
    for each in ("", "-wal", "-shm"):
        (tmp_path / f"x.sqlite3{each}").touch()
    assert unwritable_sqlite(file) == ""
    monkeypatch.setattr("bot.store.disk.os.access", lambda path, mode: path != tmp_path / f"x.sqlite3{suffix}")
    assert unwritable_sqlite(file).startswith(f"{file}{suffix} can't be written by user")


def test_a_full_database_is_told_with_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    monkeypatch.setattr("bot.store.disk.os.statvfs", lambda path: Disk(f_bavail=0))

    def fill() -> None:
        with store.database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.exec_driver_sql("CREATE TABLE t AS SELECT zeroblob(1000000)")

    with pytest.raises(StoreUnavailable) as told:
        fill()
    assert "(database or disk is full): the disk of" in str(told.value)
    assert str(tmp_path) in str(told.value)
    store.close()
