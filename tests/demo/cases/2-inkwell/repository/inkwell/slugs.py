"""Names that can stand in a link."""

import re


def slugify(title):
    """Lower case, words joined by single hyphens, nothing else."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower())
    return slug.lstrip("-")


def unique_slug(title, taken):
    """A slug that is not in `taken`: a number is added where it must be."""
    slug = slugify(title)
    number = 2
    while slug in taken:
        slug = f"{slugify(title)}-{number}"
        number += 1
    return slug


def title_from_slug(slug):
    """The words of a slug, the first one capitalised."""
    return slug.replace("-", " ").capitalize()
