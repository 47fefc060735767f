"""Names of images as Docker takes them. https://pkg.go.dev/github.com/distribution/reference"""

import re

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][\w+.-]*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def image_name(name: str) -> str:
    """The name. Raises `ValueError` where Docker can't parse it."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an image, such as python:3.11-slim or ghcr.io/octo/tests:1")
    return name
