"""Options of several commands."""

import click

stop_rule = click.option(
    "--stop",
    type=click.Choice(["posterior", "first-finish", "discovery", "consensus", "short-m", "none"]),
    help="By which rule fewer attempts are made: the count is sure of its winner, a test speaks for one, a test "
    "tells two apart or nothing new is to be expected, some behave alike, some have ended, never. "
    "TROOP_SOLVER_STOP_... are their numbers.  [default: $TROOP_SOLVER_STOP]",
)

sandbox = click.option(
    "--sandbox",
    type=click.Choice(["auto", "docker", "process"]),
    help="Where tests run. auto: Docker where a daemon and the image are available, else processes of this machine, "
    "isolated from the network and from other processes where the kernel allows it.  [default: $TROOP_SANDBOX_KIND]",
)
image = click.option("--image", help="Docker image in which tests run.  [default: $TROOP_SANDBOX_IMAGE]")


def endpoint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The address that `--base-url` names, as settings take it. Raises `click.BadParameter`."""
    if not value:
        return value
    from bot.settings.endpoints import endpoint_url  # its package takes too long to load for `--help`

    try:
        return endpoint_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value} {error}", context, option) from None
