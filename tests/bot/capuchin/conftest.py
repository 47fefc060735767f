"""A handful of functions as a corpus, so that these tests need no download."""

import pytest

from bot.capuchin.exercises.corpus import Function, functions_of
from bot.capuchin.exercises.executed import Executed, study
from bot.capuchin.exercises.scenes import Scenes
from tests.patience import PATIENCE

SOURCE = '''
def between(number, low, high):
    """Whether number lies between the bounds.

    >>> between(3, 1, 5)
    True
    """
    if number < low:
        return False
    return number <= high


def windows(items, size):
    found = []
    for start in range(len(items) - size + 1):
        found.append(items[start:start + size])
    return found


def initials(text, separator="."):
    words = text.strip().split(" ")
    return separator.join(word[0].upper() for word in words if word)


def spread(values):
    if not values:
        return 0
    return max(values) - min(values)


class Counter:
    def total(self, extra=1):
        result = sum(self.counts)
        return result + extra * 2
'''


@pytest.fixture(scope="session")
def functions() -> list[Function]:
    return list(functions_of("made/up.py", SOURCE))


@pytest.fixture(scope="session")
def executed(functions: list[Function]) -> list[Executed]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bot.capuchin.exercises.executed.SECONDS", PATIENCE)  # none of these hangs
        return study(functions, seed=1, count=4, workers=1)


@pytest.fixture(scope="session")
def scenes(functions: list[Function], executed: list[Executed]) -> Scenes:
    return Scenes(functions, executed, held_out=functions[0].held_out)
