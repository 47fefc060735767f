import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bot.errors import SettingsError, StoreUnavailable
from bot.store import Store, database
from bot.store.database import Database
from tests.bot.queueing import queue_run, start, state_of


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://x/y", "mysql is not supported"),
        ("postgresql+psycopg2://x/y", "the driver psycopg2 is not supported; begin it with postgresql://"),
        ("sqlite+aiosqlite:///x", "the driver aiosqlite is not supported; begin it with sqlite://"),
    ],
)
def test_an_unusable_url_is_told_with_its_mend(url: str, words: str):
    with pytest.raises(SettingsError, match=words):
        Database(url)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="folder can't be made"):
        Database(f"sqlite:///{tmp_path / 'file' / 'x.sqlite3'}")


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "key.pem").write_text("-----BEGIN RSA PRIVATE KEY-----\n" * 100)
    with pytest.raises(StoreUnavailable, match=r"\(file is not a database\): see .* TROOP_DATABASE_URL names it$"):
        Store.open(f"sqlite:///{tmp_path / 'key.pem'}")


def test_an_error_of_several_lines_is_told_in_one():
    refused = Database("postgresql://troop:a-password@127.0.0.1:9/troop")
    with pytest.raises(StoreUnavailable, match="Connection refused") as told, refused.read():
        pass
    assert "\n" not in str(told.value)
    assert "a-password" not in str(told.value)
    refused.close()


def test_sqlite_is_in_wal_mode_and_its_folder_is_made(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path / 'deep' / 'er' / 'x.sqlite3'}")
    with store.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    run_id = queue_run(store)
    with store.database.write() as writing:
        writing.execute(sa.text("UPDATE run SET state = 'failed'"))
        assert state_of(store, run_id).value == "queued"
    assert state_of(store, run_id).value == "failed"
    store.close()


def test_a_connection_in_use_while_the_store_closes_is_closed_when_it_is_given_back(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with store.database.read() as connection:
        store.close()
        connection.exec_driver_sql("SELECT 1")
        given_back: Any = connection.connection.dbapi_connection
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        given_back.execute("SELECT 1")


def test_a_database_locked_for_too_long_is_unavailable_and_nothing_is_lost(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    other = sqlite3.connect(tmp_path / "x.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.accept("g", "issues", "labeled", start())
    other.execute("ROLLBACK")
    other.close()
    assert not store.accept("g", "issues", "labeled", start()).duplicate
    store.close()


def test_a_full_disk_is_unavailable_and_the_same_delivery_is_taken_once_there_is_room(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")

    def limit(pages: int) -> None:
        # `PRAGMA max_page_count` is SQLite's own way to act as if the disk were full
        sa.event.listen(store.database.engine, "checkout", lambda c, *_: c.execute(f"PRAGMA max_page_count = {pages}"))

    with store.database.read() as connection:
        pages = int(connection.exec_driver_sql("PRAGMA page_count").scalar() or 0)
    limit(pages)
    large = start().model_copy(update={"issue": start().issue.model_copy(update={"body": "x" * 100_000})})
    with pytest.raises(StoreUnavailable, match="full"):
        store.accept("g", "issues", "labeled", large)
    limit(1_000_000)
    assert store.accept("g", "issues", "labeled", large).job_id == "run:1:0"
    store.close()


def test_an_unavailable_store_is_a_connection_error_too(tmp_path: Path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with pytest.raises(ConnectionError), store.database.write():
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("the server closed the connection"))
    store.close()
