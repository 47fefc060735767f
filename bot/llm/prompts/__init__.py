"""Prompts: Jinja templates, one folder per profile, with the same names in each.

The parts that prompts have in common (the issue, the files) come first, so that an engine that shares prefixes computes
them once. Later messages of a trajectory are only appended.
"""

import functools
from typing import Literal

import jinja2

from bot.sanitize.delimiters import as_attribute, as_data, as_path, tag_of

Profile = Literal["full", "compact"]


@functools.cache
def _environment(profile: Profile) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot.llm.prompts", profile),
        autoescape=False,  # noqa: S701 - a model reads it; text for people is escaped where it is published
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters["data"] = as_data
    environment.filters["tag"] = tag_of
    environment.filters["attribute"] = as_attribute
    environment.filters["path"] = as_path
    return environment


def render(profile: Profile, name: str, **values: object) -> str:
    """The text of template `name` of the profile. Raises `jinja2.UndefinedError` if a value is missing."""
    return _environment(profile).get_template(f"{name}.j2").render(**values).strip("\n")
