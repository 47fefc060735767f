"""Options of several commands."""

import click


def endpoint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The address that `--base-url` names, as settings take it. Raises `click.BadParameter`."""
    if not value:
        return value
    from bot.settings.endpoints import endpoint_url  # its package takes too long to load for `--help`

    try:
        return endpoint_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value} {error}", context, option) from None
