"""What an operator does on the machine: pause and resume, what was spent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bot.errors import TroopError
from bot.lifecycle import ACTIVE, RunState

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.store import Store


@contextmanager
def opened() -> "Iterator[tuple[Settings, Store]]":
    """The settings and the store that they name. Troop's own errors end the command in one line."""
    from bot.settings import read_settings
    from bot.store import Store

    try:
        settings = read_settings()
        store = Store.from_settings(settings)
        try:
            yield settings, store
        finally:
            store.close()
    except TroopError as error:
        click.echo(f"troop: {error}", err=True)
        raise SystemExit(1) from None


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


def _check_month(month: str) -> None:
    from datetime import datetime

    try:
        if month and f"{datetime.strptime(month, '%Y-%m'):%Y-%m}" != month:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{month!r} is no month; write it as 2026-01", param_hint="--month") from None


def _counted(runs: int) -> str:
    return f"{runs:,} run{'' if runs == 1 else 's'}"


COMMANDS: tuple[click.Command, ...] = (pause, resume, spending)
