import json
import threading
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateIndex

from bot.lifecycle import ACTIVE
from bot.store import Store
from bot.store.database import Database, migration_config
from bot.store.models import METADATA, RUN
from tests.bot.queueing import queue_run, state_of


def test_migrations_and_models_agree(store: Store):
    with store.database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_the_partial_index_is_over_the_active_states_of_today(store: Store):
    [index] = [index for index in RUN.indexes if index.name == "run_one_active_per_issue"]
    wanted = str(CreateIndex(index).compile(dialect=store.database.engine.dialect))
    assert all(f"'{state.value}'" in wanted for state in ACTIVE)
    query = "SELECT sql FROM sqlite_master WHERE name = 'run_one_active_per_issue'"
    if not store.database.sqlite:
        query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'run_one_active_per_issue'"
    with store.database.read() as connection:
        made = str(connection.scalar(sa.text(query)))
    assert "UNIQUE" in made
    assert set(made.split("'")[1::2]) == {state.value for state in ACTIVE}


def test_opening_again_keeps_what_is_there(store: Store, database_url: str):
    run_id = queue_run(store)
    again = Store.open(database_url)
    assert state_of(again, run_id).value == "queued"
    again.close()


def test_several_processes_may_open_a_new_database_at_once(database_url: str):
    barrier = threading.Barrier(5)
    opened, errors = [], []

    def open_it() -> None:
        barrier.wait()
        try:
            opened.append(Store.open(database_url))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in opened:
        store.close()
    assert errors == []


def test_down_and_up_again(database_url: str):
    database = Database(database_url)
    database.migrate()
    with database.write() as connection:
        alembic.command.downgrade(migration_config(connection), "base")
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    database.migrate()
    database.close()


def test_reports_move_to_a_table_of_their_own(database_url: str):
    database = Database(database_url)
    report = {"usage": {"prompt_tokens": 40, "completion_tokens": 2}, "words": "naïve \\u0000"}
    with database.write() as tx:
        alembic.command.upgrade(migration_config(tx), "0003")
        row = {"repository": "o/r", "sender": "s", "state": "solved", "reason": "", "progress": "", "attempt": 1}
        row |= dict.fromkeys(("labelled_at", "available_at", "crashes", "setbacks", "announce_tries"), 0)
        row |= {"created_at": 0, "updated_at": 0, "announce": False, "is_notice": False}
        issue = json.dumps({"title": "It's ”broken”", "body": ""})
        for number, text in ((1, json.dumps(report)), (2, None)):
            values = row | {"id": number, "issue_number": number, "issue": issue, "report": text}
            table = sa.table("run", *map(sa.column, values))
            tx.execute(table.insert(), values)
    store = Store.open(database_url)
    assert [(run.issue_title, run.tokens) for run in store.runs()] == [("It's ”broken”", 0), ("It's ”broken”", 42)]
    assert json.loads(store.report(1) or "") == report
    assert store.report(2) is None
    with database.write() as tx:
        alembic.command.downgrade(migration_config(tx), "0003")
        assert tx.scalar(sa.text("SELECT report FROM run WHERE id = 1")) == json.dumps(report)
    store.close()
    database.close()


def test_a_migration_that_breaks_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("killed in the middle")

    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.create_index", broken)
        with pytest.raises(RuntimeError, match="middle"):
            database.migrate()
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == []
    database.migrate()
    database.close()
