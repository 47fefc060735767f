"""What an operator does on the machine: pause and resume, what was spent, backup and restore."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot.cli.running import errors_told
from bot.lifecycle import ACTIVE, RunState

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.store import Store
    from bot.store.database import Database


@contextmanager
def opened() -> "Iterator[tuple[Settings, Store]]":
    """The settings and the store that they name, with `errors_told`."""
    from bot.settings import read_settings
    from bot.store import Store

    with errors_told():
        settings = read_settings()
        with closing(Store.from_settings(settings)) as store:
            yield settings, store


@contextmanager
def database() -> "Iterator[Database]":
    """The database as it is, not migrated, with `errors_told`."""
    from bot.settings import read_settings
    from bot.store.database import Database

    with errors_told(), closing(Database(read_settings().database_url)) as found:
        yield found


@click.command()
@click.option("--reason", default="", metavar="TEXT", help="Shown on the issues that wait.")
def pause(reason: str) -> None:
    """Start no new run, on all machines that share the database. Deliveries are recorded, and the issues that wait are
    told; runs under way go on. `troop resume` ends it.
    """
    with opened() as (_, store):
        store.pause(reason, os.environ.get("USER") or f"user {os.getuid()}")
        active = sum(count for state, count in store.counts().items() if state in ACTIVE - {RunState.QUEUED})
    click.echo(f"paused; {_counted(active)} under way, which end as usual")


@click.command()
def resume() -> None:
    """End `troop pause`. Runs that waited begin within seconds."""
    with opened() as (settings, store):
        waiting = store.resume()
    click.echo(f"resumed; {_counted(waiting)} waiting")
    if settings.paused:
        click.echo("troop: TROOP_PAUSED is set, so nothing starts: remove it, and restart", err=True)
        raise SystemExit(1)


@click.command()
@click.option("--month", default="", metavar="YYYY-MM", help="[default: the present one, UTC]")
def spending(month: str) -> None:
    """Print what runs cost: by month, and by repository in one month, with the caps."""
    from bot.records import money

    _check_month(month)
    with opened() as (settings, store):
        months, rows, now = store.months(), store.spent(month), store.spent_now()
    currency = settings.spending.currency
    if not settings.spending.prices:
        click.echo("troop: TROOP_SPENDING_PRICES is not set, so that runs cost nothing", err=True)
    for name, cost in months.items():
        click.echo(f"{name}  {money(cost, currency):>16}")
    click.echo(f"today    {money(now['day'], currency):>16}")
    for cap in settings.spending.caps:
        click.echo(f"{cap.variable}: {cap.words}")
    for row in rows:
        click.echo(f"{money(row.cost, currency):>16}  {_counted(row.runs):>9}  {row.repository}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
def backup(file: Path) -> None:
    """Write the database to FILE, while Troop runs; `-` writes to stdout. The same file restores into SQLite and into
    PostgreSQL, of this version and of later ones. The secrets of TROOP_SECRETS_DIR are not in it.
    """
    from bot.store.backup import back_up, write

    with database() as opened_database:
        made = write(opened_database, sys.stdout.buffer) if str(file) == "-" else back_up(opened_database, file)
    click.echo(f"{file}: {_rows(made.rows)}", err=True)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--force", is_flag=True, help="Replace what the database holds.")
def restore(file: Path, force: bool) -> None:
    """Fill the database of TROOP_DATABASE_URL from a backup; `-` reads stdin. Stop Troop first. All of it is restored
    or nothing; what a run had finished is not done again.
    """
    from bot.store.backup import restore as fill

    with database() as opened_database, ExitStack() as stack:
        stream: Any = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        made = fill(opened_database, stream, force=force)
    click.echo(f"restored: {_rows(made.rows)}", err=True)


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in rows.items())


def _check_month(month: str) -> None:
    from datetime import datetime

    try:
        if month and f"{datetime.strptime(month, '%Y-%m'):%Y-%m}" != month:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{month!r} is no month; write it as 2026-01", param_hint="--month") from None


def _counted(runs: int) -> str:
    return f"{runs:,} run{'' if runs == 1 else 's'}"


COMMANDS: tuple[click.Command, ...] = (pause, resume, spending, backup, restore)
