"""Options of several commands."""

import click

stop_rule = click.option(
    "--stop",
    type=click.Choice(["posterior", "first-finish", "discovery", "consensus", "short-m", "none"]),
    help="By which rule fewer attempts are made: the count is sure of its winner, a test speaks for one, a test "
    "tells two apart or nothing new is to be expected, some behave alike, some have ended, never. "
    "TROOP_SOLVER_STOP_... are their numbers.  [default: $TROOP_SOLVER_STOP]",
)


def endpoint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The address that `--base-url` names, as settings take it. Raises `click.BadParameter`."""
    if not value:
        return value
    from bot.settings.endpoints import endpoint_url  # its package takes too long to load for `--help`

    try:
        return endpoint_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value} {error}", context, option) from None
