"""Where two behaviours part, in words."""

from bot.records import Parting
from bot.sanitize import inline


def where_they_part(parting: Parting) -> str:
    """`For f(1), A gives 2, B gives 3.`"""
    a, b = parting.results
    if parting.call:
        return f"For {inline(parting.call)}, **A** gives {inline(a)}, **B** gives {inline(b)}."
    one, other = (f"T{test + 1}" for test in parting.tests)
    return f"**A** passes test {one} and fails {other}; **B** passes {other} and fails {one}."
