"""One database: engine, transactions, the clock, migrations. SQLite (WAL) or PostgreSQL by URL.

A write transaction takes SQLite's write lock when it begins (`BEGIN IMMEDIATE`), so that what it read is still true
when it writes; on PostgreSQL rows are locked as they are read.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import ReturningInsert
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bot.errors import SettingsError, StoreUnavailable
from bot.settings.credentials import masked
from bot.store.disk import remedy, unwritable_sqlite

BUSY_TIMEOUT = 20.0  # seconds that a writer waits for one of another process
_MIGRATION_LOCK = 0x7472_6F6F_70  # any number that is ours: PostgreSQL's advisory lock while migrating
_CLOCK = sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))
# In one order, so that two transactions never wait for each other.
_SERIALISE = sa.text(
    "SELECT pg_advisory_xact_lock(key), extract(epoch FROM clock_timestamp()) FROM (SELECT DISTINCT"
    " hashtextextended(name, 0) AS key FROM unnest(CAST(:names AS text[])) AS name ORDER BY key) AS keys"
)
# `InternalError` is also what a server says that takes no writes, or that is damaged.
_UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)
_REMEDY = "see that it runs, and that TROOP_DATABASE_URL names it"
_READ_ONLY = "it is a standby, or was made read-only: name the primary in TROOP_DATABASE_URL, or let it be written"
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}

log = logging.getLogger(__name__)


def database_url(text: str) -> sa.URL:
    """The URL of a SQLite file or a PostgreSQL database. Raises `SettingsError` for any other."""
    try:
        parsed = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise SettingsError(
            "TROOP_DATABASE_URL is not a database URL; use sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    kind, _, driver = parsed.drivername.partition("+")
    if kind not in _DRIVERS:
        raise SettingsError(f"TROOP_DATABASE_URL: {kind} is not supported; use sqlite or postgresql")
    if driver not in ("", _DRIVERS[kind]):
        raise SettingsError(f"TROOP_DATABASE_URL: the driver {driver} is not supported; begin it with {kind}://")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise SettingsError("TROOP_DATABASE_URL names no file; several threads need one: sqlite:///troop.sqlite3")
    if kind == "sqlite" and Path(str(parsed.database)).is_dir():
        there = f"sqlite:///{str(parsed.database).rstrip('/')}/troop.sqlite3"
        raise SettingsError(f"TROOP_DATABASE_URL: {parsed.database} is a folder; name a file in it: {there}")
    return parsed


class Database:
    """Thread-safe. Every method raises `StoreUnavailable` where the database can't be reached or written."""

    def __init__(self, url: str) -> None:
        """Connects at the first transaction. Raises `SettingsError` for a URL that can't be used."""
        parsed, self._address = database_url(url), url
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            try:
                Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsError(f"TROOP_DATABASE_URL: the database's folder can't be made: {error}") from error
            self.engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=20)
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
            _SameFile(Path(str(parsed.database))).watch(self.engine)
        else:
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            try:
                self.engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=20, max_overflow=20)
            except ModuleNotFoundError as error:
                raise SettingsError("PostgreSQL needs its driver: pip install 'psycopg[binary]'") from error
        # Threads of one process wait here, in order and without polling, instead of in SQLite's busy handler.
        self._writer = threading.Lock() if self.sqlite else None
        self._inserts: dict[str, ReturningInsert[Any]] = {}
        self._reading = self.engine.execution_options(troop_read=True)

    @contextlib.contextmanager
    def write(self, patience: float | None = None) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, or rolled back where the block raises.

        `patience`: seconds to wait for other writers of SQLite, and for each lock on PostgreSQL; without it, SQLite
        waits `BUSY_TIMEOUT` for those of other processes.
        """
        with self._turn(patience) as left, self._translated():
            engine = self.engine if left is None else self.engine.execution_options(troop_patience=left)
            with engine.begin() as connection:
                if patience is not None and not self.sqlite:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, int(patience * 1000))}")
                yield connection

    @contextlib.contextmanager
    def _turn(self, patience: float | None) -> Iterator[float | None]:
        """This process's turn to write; the seconds of patience that are left."""
        if self._writer is None:
            yield None
            return
        until = None if patience is None else time.monotonic() + patience
        if not self._writer.acquire(timeout=-1 if patience is None else max(0.0, patience)):
            raise StoreUnavailable(f"others wrote to the database for {patience:.1f} s")
        try:
            yield None if until is None else max(0.0, until - time.monotonic())
        finally:
            self._writer.release()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one consistent snapshot and does not wait for writers."""
        with self._translated(), self._reading.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> float:
        """Seconds since 1970 by the clock that all workers share: the machine's for SQLite, else the server's."""
        if self.sqlite:
            return time.time()
        return float(connection.scalar(_CLOCK))  # type: ignore[arg-type]

    def insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """An insert that knows `on_conflict_do_nothing`."""
        return sqlite.insert(table) if self.sqlite else postgresql.insert(table)

    def insert_new(self, table: sa.Table) -> ReturningInsert[Any]:
        """An insert of rows that returns the primary keys of those that conflict with none."""
        if table.name not in self._inserts:  # making the statement costs more than executing it
            self._inserts[table.name] = self.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
        return self._inserts[table.name]

    def serialise(self, connection: Connection, *names: str) -> float:
        """Until this transaction ends, make others that name one of the same things wait; then the moment as `now`."""
        if self.sqlite or not names:  # SQLite has a single writer
            return self.now(connection)
        return float(connection.execute(_SERIALISE, {"names": list(names)}).all()[-1][1])

    def migrate(self) -> None:
        """Bring the tables up to date. Safe when several processes start at once: one does it, the others wait."""
        with self.write() as connection:
            self.lock_migrations(connection)
            config = migration_config(connection)
            try:
                alembic.command.upgrade(config, "head")
            except alembic.util.CommandError as error:
                raise SettingsError(
                    f"the database is a later version's ({error}): run that version or a later one, or restore a "
                    "backup that was made before with `troop restore`"
                ) from error

    def lock_migrations(self, connection: Connection) -> None:
        """Make other processes that migrate wait until this transaction ends; one of SQLite is alone anyway."""
        if not self.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read of all tables as they are at one moment; SQLite's every read is."""
        engine = self._reading if self.sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _UNAVAILABLE as error:
            raise StoreUnavailable(self._unusable(error)) from error
        except sa.exc.DBAPIError as error:
            if type(error) is sa.exc.DatabaseError:  # SQLite's, of a file that is damaged, or no database
                raise StoreUnavailable(self._unusable(error)) from error
            if error.connection_invalidated:
                cause = masked(str(error.orig), (self._address,))
                raise StoreUnavailable(f"the connection to the database broke: {cause}") from error
            raise

    def _unusable(self, error: sa.exc.SQLAlchemyError) -> str:
        """In one line, whatever the driver says in several; with the remedy."""
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        if self.sqlite:
            trouble = remedy(cause, Path(str(self.engine.url.database)))
        else:
            trouble = _READ_ONLY if "read-only transaction" in cause else ""
        return f"the database can't be used now ({masked(cause, (self._address,))}): {trouble or _REMEDY}"

    def check_room(self) -> None:
        """Raises `StoreUnavailable` where SQLite's file can't grow, which a read does not notice."""
        trouble = unwritable_sqlite(Path(str(self.engine.url.database))) if self.sqlite else ""
        if trouble:
            raise StoreUnavailable(f"the database can't be written: {trouble}")

    def close(self) -> None:
        """Close all connections: idle ones now, others when their threads return them."""
        sa.event.listen(self.engine.pool, "checkin", lambda _connection, record: record.invalidate())
        self.engine.dispose()


class _SameFile:
    """Sees that SQLite's connections are to the file that has the database's name now.

    A connection goes on with a file that was moved, replaced or removed, and what it writes there is lost with it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = False

    def watch(self, engine: sa.Engine) -> None:
        sa.event.listen(engine, "do_connect", self._before)
        sa.event.listen(engine, "connect", self._connected)
        sa.event.listen(engine, "checkout", self._used)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _before(self, _dialect: Any, _record: Any, _arguments: Any, _named: Any) -> None:
        """SQLite would begin an empty database."""
        if self._seen and self._identity() is None:
            raise StoreUnavailable(
                f"the database's file {self._file} is gone, which was there before: bring it back, or start Troop "
                "again for an empty database"
            )

    def _connected(self, _connection: Any, record: Any) -> None:
        record.info["file"] = self._identity()
        self._seen = True

    def _used(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["file"] != self._identity():
            log.warning("%s is not the file any more that was opened: it is opened again", self._file)
            raise sa.exc.InvalidatePoolError  # all connections are made anew, and this one at once


def migration_config(connection: Connection) -> alembic.config.Config:
    """Alembic's configuration, made here instead of read from a file, so that it works from a wheel."""
    config = alembic.config.Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # pysqlite shall not begin transactions; `_begin_sqlite` does
    cursor = connection.cursor()
    # SQLite does not wait here while another process makes the same change.
    patient = Retrying(
        retry=retry_if_exception_type(sqlite3.OperationalError),
        wait=wait_fixed(0.01),
        stop=stop_after_delay(BUSY_TIMEOUT),
        reraise=True,
    )
    patient(cursor.execute, "PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # model replies, which cost money, survive a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    patience = options.get("troop_patience")
    if patience is None:
        connection.exec_driver_sql("BEGIN" if options.get("troop_read", False) else "BEGIN IMMEDIATE")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
