"""The packages that the acceptance run plants bugs in."""

from bot.evaluation.planting.packages import Pinned

PINNED = (
    Pinned("toolz", "1.2.0", "toolz", "toolz/tests"),
    Pinned("more-itertools", "11.2.1", "more_itertools", "tests"),
    Pinned("boltons", "26.2.0", "boltons", "tests"),
)
