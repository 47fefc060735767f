"""Prints lines that may hold words of a model, a program or a repository."""

import click


def say(text: str, *, err: bool = False) -> None:
    """A line, with control characters shown as escapes: a terminal would obey them."""
    from bot.sanitize.characters import visible  # its package takes too long to load for `--help`

    click.echo(visible(text), err=err)
