"""Where and how a run's tests ran, and what the values of a repository's config for it may be."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from bot.records.record import Record

SCRIPT = "{script}"


def _image(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._/:@-]{0,250}", text):
        raise ValueError('is not an image\'s name; they look like "python:3.12-slim"')
    return text


def _ending(text: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9_.+-]{1,20}", text):
        raise ValueError('endings look like ".rb": a dot, then letters or digits')
    return text.lower()


def with_script(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The argv. Raises `ValueError` where it has no `SCRIPT`."""
    if not any(SCRIPT in word for word in argv):
        raise ValueError('must contain {script} in place of the test file\'s path, as in "ruby {script}"')
    return argv


Line = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
SetupLines = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
ImageName = Annotated[str, AfterValidator(_image)]
FileEnding = Annotated[str, AfterValidator(_ending)]


class TestConfig(Record):
    """What a repository's config says of its tests, as far as the server honoured it."""

    __test__ = False  # for pytest

    command: tuple[Line, ...] = ()  # the repository's own tests; empty: as its files suggest
    timeout: Seconds | None = None  # of that command; None: the server's
    scripts: dict[FileEnding, Annotated[tuple[Line, ...], AfterValidator(with_script)]] = Field(default_factory=dict)
    image: Annotated[str, AfterValidator(lambda text: text and _image(text))] = ""
    setup: SetupLines = ""  # a shell command line, run in the image while it is prepared


class Environment(Record):
    """Where a run's tests ran, as far as others can make the same."""

    sandbox: str = ""  # `docker`, `process`; "": not known
    image: str = ""  # that was begun from, as people call it
    digest: str = ""  # of that image
    steps: tuple[str, ...] = ()  # commands that made the image for the tests of it, in their order
    test_timeout: float = 0.0  # seconds that one test had
    config: TestConfig | None = None  # None in reports of earlier versions: not known
