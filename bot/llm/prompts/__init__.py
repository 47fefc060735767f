"""Prompts: Jinja templates, one folder a profile, the same names in each.

What is shared stands first (the issue, the files), what differs last, so that an engine that shares prefixes
computes the shared part once; the messages of a trajectory only ever grow.
"""

import functools
from typing import Literal

import jinja2

Profile = Literal["full", "compact"]


@functools.cache
def _environment(profile: Profile) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("bot.llm.prompts", profile),
        autoescape=False,  # noqa: S701 - the reader is a model; what people read is escaped where it is written
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


def render(profile: Profile, name: str, **values: object) -> str:
    """The text of template `name` of the profile. Raises `jinja2.UndefinedError` where a value is missing."""
    return _environment(profile).get_template(f"{name}.j2").render(**values).strip("\n")
