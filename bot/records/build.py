"""One layer of the image that a repository's tests run in, as it was built."""

from datetime import datetime

from bot.records.record import Record


class Build(Record):
    """A layer that was built, not found in the cache."""

    layer: str  # its name, as `pip` or `setup`
    source: str  # the file that asks for it
    recipe: str  # what was found in the repository, in words
    at: datetime  # when it was begun
    seconds: float
    log: str = ""  # the end of its output, sanitised and bounded
    trouble: str = ""  # why it failed; "" where it was built
