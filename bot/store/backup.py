"""A backup: the whole database as lines of JSON, compressed, the same from SQLite and from PostgreSQL.

First a line that says what it is, then one a row, last one with the number of rows, so that a cut file is noticed. It
is read in one transaction, while others write. The tables are restored as they were at the backup's revision and then
migrated, so that every later version restores it, into either kind of database.
"""

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import alembic.command
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from bot.atomic import OWN, atomic_write
from bot.errors import BackupError
from bot.records import Record
from bot.store.database import Database, migration_config
from bot.store.models import METADATA
from bot.version import VERSION

KIND = "troop backup"
ROWS = 500  # that are read and written at once
_REVISION = "alembic_version"
_GZIP = b"\x1f\x8b"


class Head(Record):
    """The first line. `tables`: the columns of each, in the order in which they can be filled."""

    kind: str
    version: str  # of Troop
    revision: str  # of the tables
    made_at: float  # seconds since 1970
    tables: dict[str, tuple[str, ...]]


class Backup(Record):
    """What was backed up or restored."""

    head: Head
    rows: dict[str, int]  # by table


def back_up(database: Database, path: Path) -> Backup:
    """Write the database to the file, which is whole or not there, for this user alone.

    Raises `BackupError` where there is nothing, or the file can't be written, and `StoreUnavailable`.
    """
    try:
        with atomic_write(path, OWN) as file:
            made = write(database, file)
    except OSError as error:
        raise BackupError(f"{path} can't be written: {error.strerror or error}") from error
    return made


def restore(database: Database, stream: BinaryIO, *, force: bool = False) -> Backup:
    """Fill the database from a backup, in one transaction, and migrate it. Runs that were under way go on at once.

    Raises `BackupError` for what is no whole backup or is a newer version's, and where the database holds runs or
    deliveries already: `force` deletes them.
    """
    lines = _lines(stream)
    head = _head(next(lines, {}))
    with database.write() as tx:
        database.lock_migrations(tx)
        config = migration_config(tx)
        if not any(script.revision == head.revision for script in ScriptDirectory.from_config(config).walk_revisions()):
            raise BackupError(
                f"this is a backup of Troop {head.version} with tables of revision {head.revision}, which this version "
                "does not know: restore it with that version or a later one"
            )
        _clear(tx, force=force)
        alembic.command.upgrade(config, head.revision)
        rows = _fill(tx, head, lines)
        alembic.command.upgrade(config, "head")
        _give_back(tx)
        if not database.sqlite:
            _go_on_counting(tx)
    return Backup(head=head, rows=rows)


# -- writing


def write(database: Database, file: BinaryIO) -> Backup:
    """Write the database to the stream. Raises `BackupError` where there is nothing, and `StoreUnavailable`."""
    rows: dict[str, int] = {}
    with database.snapshot() as tx, gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as out:
        tables = _tables(tx)
        revision = tx.scalar(sa.text(f"SELECT version_num FROM {_REVISION}")) if _REVISION in tables else None  # noqa: S608
        if revision is None:
            raise BackupError(
                "the database has no tables of Troop's: there is nothing to back up; see TROOP_DATABASE_URL"
            )
        ours = [table for table in tables.values() if table.name != _REVISION]
        head = Head(
            kind=KIND,
            version=VERSION,
            revision=revision,
            made_at=database.now(tx),
            tables={table.name: tuple(column.name for column in table.columns) for table in ours},
        )
        out.write(_line(head.model_dump()))
        for table in ours:
            rows[table.name] = 0
            for row in tx.execute(sa.select(table), execution_options={"yield_per": ROWS}):
                out.write(_line({table.name: list(row)}))
                rows[table.name] += 1
        out.write(_line({"rows": rows}))
    return Backup(head=head, rows=rows)


def _tables(tx: Connection) -> dict[str, sa.Table]:
    """As the database has them, in the order in which they can be filled: it may be an earlier version's."""
    found = sa.MetaData()
    names = {*METADATA.tables, _REVISION}
    found.reflect(tx, only=[name for name in sa.inspect(tx).get_table_names() if name in names])
    return {table.name: table for table in found.sorted_tables}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


# -- reading


def _lines(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """The lines as objects. Raises `BackupError` where one is none, or the file is cut."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    compressed = buffered.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
    with contextlib.ExitStack() as stack:
        lines: Iterable[bytes] = stack.enter_context(gzip.GzipFile(fileobj=buffered)) if compressed else buffered
        try:
            for number, line in enumerate(lines, start=1):
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise BackupError(f"line {number} is no object: this is no backup of Troop's")
                yield value
        except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            raise BackupError(f"this is no whole backup of Troop's: {error}") from error


def _head(line: dict[str, Any]) -> Head:
    try:
        head = Head.model_validate(line)
    except ValueError as error:
        raise BackupError("this is no backup of Troop's: its first line does not say so") from error
    if head.kind != KIND:
        raise BackupError(f"this is no backup of Troop's, but {head.kind[:60]!r}")
    return head


def _clear(tx: Connection, *, force: bool) -> None:
    """Drop Troop's tables. Raises `BackupError` where they hold something, unless forced."""
    tables = _tables(tx)
    held = {
        name: tx.scalar(sa.select(sa.func.count()).select_from(tables[name]))
        for name in ("run", "delivery")
        if name in tables
    }
    if any(held.values()) and not force:
        runs, deliveries = held.get("run") or 0, held.get("delivery") or 0
        words = f"{runs:,} run{'s' * (runs != 1)} and {deliveries:,} deliver{'y' if deliveries == 1 else 'ies'}"
        raise BackupError(
            f"the database holds {words}: stop Troop, and give --force to replace them, or name an empty database"
        )
    for table in reversed(tables.values()):
        table.drop(tx)


def _fill(tx: Connection, head: Head, lines: Iterator[dict[str, Any]]) -> dict[str, int]:
    tables = _tables(tx)
    rows = dict.fromkeys(head.tables, 0)
    batch: list[dict[str, Any]] = []
    filled = ""

    def flush() -> None:
        if batch:
            tx.execute(tables[filled].insert(), batch)
            batch.clear()

    for line in lines:
        if "rows" in line:
            flush()
            if line["rows"] != rows:
                raise BackupError(
                    f"the backup is not whole: it says that it has the rows {line['rows']}, and has {rows}"
                )
            return rows
        [(name, values)] = line.items() if len(line) == 1 else [("", None)]
        if name not in rows or name not in tables or not isinstance(values, list):
            raise BackupError(f"the backup has a line of an unknown table {name[:60]!r}")
        if name != filled or len(batch) >= ROWS:
            flush()
            filled = name
        batch.append(dict(zip(head.tables[name], values, strict=True)))
        rows[name] += 1
    raise BackupError("the backup is not whole: its last line is missing")


def _give_back(tx: Connection) -> None:
    """No worker of the time of the backup holds anything any more. Their deaths are no crashes."""
    for name in ("run", "command"):
        table = METADATA.tables[name]
        tx.execute(sa.update(table).values(lease_until=None, worker=None))


def _go_on_counting(tx: Connection) -> None:
    """PostgreSQL's sequences know nothing of ids that were given."""
    for name, table in METADATA.tables.items():
        for column in table.primary_key.columns:
            if isinstance(column.type, sa.Integer) and len(table.primary_key.columns) == 1:
                sequence = tx.scalar(sa.select(sa.func.pg_get_serial_sequence(name, column.name)))
                newest = tx.scalar(sa.select(sa.func.max(column)))
                if sequence and newest:
                    tx.execute(sa.select(sa.func.setval(sequence, newest)))
