"""Backup and restore: all of it or nothing, of either database into either, of earlier versions into this one."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa

from bot.errors import BackupError, SettingsError
from bot.lifecycle import RunState
from bot.records import Act
from bot.store import Store, backup, run_job
from bot.store.backup import back_up, restore, write
from bot.store.database import Database, migration_config
from bot.store.models import METADATA
from tests.bot.queueing import queue_command, queue_run, state_of

DUMPS = Path(__file__).parents[2] / "data" / "databases"


def filled(store: Store) -> int:
    """Some of everything; the id of a run that a worker holds."""
    held = queue_run(store)
    ended, _waiting = queue_run(store, 2), queue_run(store, 3)
    queue_command(store)
    for run_id in (held, ended):
        store.claim_run(run_id, "w", 1000)
        store.put_step(run_id, 1, "model/é/1", '{"text":"naïve \\u0000 \\"x\\""}')
        store.spend(run_id, 1, 0.1 + 0.2)
    store.finish(ended, 1, RunState.FAILED, reason="it \U0001f412 broke", report_json="{}", announce=True)
    store.judge(ended, Act.CLOSED, "ann", odds=0.5, candidate=1)
    store.pause("an upgrade", "ann")
    return held


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Everything, but who holds what."""
    with database.read() as tx:
        return {
            name: sorted(
                tuple(row)
                for row in tx.execute(sa.select(*(c for c in table.columns if c.name not in ("worker", "lease_until"))))
            )
            for name, table in METADATA.tables.items()
        }


def dumped(database: Database) -> io.BytesIO:
    stream = io.BytesIO()
    write(database, stream)
    return io.BytesIO(stream.getvalue())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of its own, empty."""
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgres_url"))
    database = Database(url)
    with database.write() as tx:
        METADATA.drop_all(tx)
        tx.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    yield database
    database.close()


def test_what_is_restored_is_what_was_backed_up(tmp_path: Path, other: Database) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    held = filled(store)
    file = tmp_path / "troop.backup"
    made = back_up(store.database, file)
    assert file.stat().st_mode & 0o777 == 0o600
    counts = {"command": 1, "delivery": 4, "judgement": 1, "pause": 1, "report": 1, "run": 3, "spending": 1, "step": 2}
    assert made.rows == counts
    with file.open("rb") as stream:
        assert restore(other, stream).rows == made.rows
    assert rows(other) == rows(store.database)
    again = Store(other, quota_runs_per_hour=20, max_crashes=1)
    assert run_job(held, 1) in again.due()  # no worker holds it any more
    again.resume()
    claimed = again.claim_run(held, "v", 1000)
    assert claimed is not None  # and that is no crash
    assert again.get_step(held, "model/é/1") == '{"text":"naïve \\u0000 \\"x\\""}'
    assert queue_run(again, 9) > held  # ids go on
    store.close()
    again.close()


def test_of_postgresql_into_sqlite(store: Store, tmp_path: Path) -> None:
    filled(store)
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    restore(other, dumped(store.database))
    assert rows(other) == rows(store.database)
    other.close()


def test_a_backup_sees_one_moment_while_others_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)
    before = rows(store.database)

    made: list[bytes] = []

    def meanwhile(value: dict[str, object]) -> bytes:
        if not made:  # the first line is written, no row was read yet
            queue_run(store, 50)
            store.resume()
        made.append(line(value))
        return made[-1]

    line = backup._line
    monkeypatch.setattr(backup, "_line", meanwhile)
    stream = io.BytesIO()
    write(store.database, stream)
    lines = [json.loads(line) for line in gzip.decompress(stream.getvalue()).splitlines()]
    assert lines[-1]["rows"] == {name: len(found) for name, found in before.items()}


def test_what_is_there_is_replaced_only_on_request(store: Store, tmp_path: Path) -> None:
    empty = dumped(store.database).read()
    filled(store)
    before = rows(store.database)
    with pytest.raises(BackupError, match=r"holds 3 runs and 4 deliveries: stop Troop, and give --force"):
        restore(store.database, io.BytesIO(empty))
    assert rows(store.database) == before
    restore(store.database, io.BytesIO(empty), force=True)
    assert not any(rows(store.database).values())


def damaged(text: bytes) -> dict[str, bytes]:
    lines = text.splitlines(keepends=True)
    head = json.loads(lines[0])
    return {
        "cut": gzip.compress(text)[:-20],
        "cut at a line": b"".join(lines[:-1]),
        "a row is gone": b"".join([*lines[:2], *lines[3:]]),
        "empty": b"",
        "other": b'{"name": "x"}\n',
        "text": b"-- PostgreSQL database dump\n",
        "no object": lines[0] + b"[1]\n",
        "unknown table": lines[0] + b'{"sqlite_master": [1]}\n',
        "newer": json.dumps(head | {"revision": "9999", "version": "9.0"}).encode() + b"\n",
    }


@pytest.mark.parametrize(
    "kind",
    ["cut", "cut at a line", "a row is gone", "empty", "other", "text", "no object", "unknown table", "newer"],
)
def test_what_is_no_whole_backup_changes_nothing(kind: str, tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    filled(store)
    whole = gzip.decompress(dumped(store.database).read())
    before = rows(store.database)
    with pytest.raises(BackupError, match="9\\.0.*a later one" if kind == "newer" else "backup|Troop"):
        restore(store.database, io.BytesIO(damaged(whole)[kind]), force=True)
    assert rows(store.database) == before
    store.close()


def test_nothing_to_back_up(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    with pytest.raises(BackupError, match="nothing to back up"):
        back_up(database, tmp_path / "x")
    with pytest.raises(BackupError, match="can't be written"):
        back_up(database, tmp_path / "no" / "x")
    assert list(tmp_path.glob("*x*")) == []
    database.close()


def test_a_database_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'troop.sqlite3'}")
    database.migrate()
    with database.write() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"the database is a later version.s .*9999"):
        database.migrate()
    database.close()


# -- upgrades


@pytest.mark.parametrize("dump", sorted(DUMPS.iterdir()), ids=lambda path: path.stem)
def test_a_database_of_each_version_is_upgraded_with_what_it_holds(dump: Path, database_url: str) -> None:
    """Real ones, of a run that was backed up between two stages: as the version left them, then opened by this one."""
    database = Database(database_url)
    lines = [json.loads(line) for line in dump.read_text().splitlines()]
    head = lines[0]
    with database.write() as tx:
        METADATA.drop_all(tx)
        tx.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        alembic.command.upgrade(migration_config(tx), head["revision"])
        found = sa.MetaData()
        found.reflect(tx)
        for line in lines[1:-1]:
            [(name, values)] = line.items()
            tx.execute(found.tables[name].insert(), dict(zip(head["tables"][name], values, strict=True)))
    database.close()
    store = Store.open(database_url)
    [run] = store.runs()
    assert (run.state, run.issue_title) == (RunState.TRAJECTORIES, "clamp ignores the upper bound")
    assert len(store.step_keys(run.id)) == lines[-1]["rows"]["step"] > 10
    assert store.due() == () or run_job(run.id, 1) in store.due()
    if not store.database.sqlite:
        with store.database.write() as tx:
            backup._go_on_counting(tx)  # the rows came with their ids
    assert state_of(store, queue_run(store, 77)) is RunState.QUEUED
    store.close()
