"""A package small enough to be planted with bugs within a test."""

from bot.evaluation.planting.packages import Package

CALC = '''"""Sums and pieces."""


def total(values, start=0):
    """The sum of the values.

    >>> total([1, 2, 3])
    6
    >>> total([1], start=5)
    6
    """
    result = start
    for value in values:
        result = result + value
    return result


def head(values, count):
    """The first ones.

    >>> numbers = [1, 2, 3, 4]
    >>> head(numbers, 2)  # a comment
    [1, 2]
    """
    return values[:count]


def is_small(value, limit=10):
    """Whether the value is below the limit.

    >>> is_small(10)
    False
    """
    return value < limit


def untested(value):
    """Has no example."""
    return value + 1
'''

TESTS = """from tiny.calc import head, is_small


def test_head():
    assert head([7, 8, 9], 1) == [7]


def test_is_small():
    assert is_small(9) and not is_small(10) and not is_small(11)
"""

TINY = Package(
    name="tiny",
    files={"tiny/__init__.py": "", "tiny/calc.py": CALC, "README.md": "# tiny\n"},
    tests={"tests/__init__.py": "", "tests/test_calc.py": TESTS},
)
