import pytest

from bot.llm.test_script import bound, statements
from tests.bot.llm.test_grammars import HELPERS


def test_statements() -> None:
    assert statements(HELPERS) == [
        "def even(n):\n    k = n % 2\n    return k == 0",
        "rows = [\n    1,\n    22,\n]",
        "class Box:\n    size = 3",
        "total(filter(even, rows))",
    ]
    assert statements("nothing here\nfoo\n5\n\n") == []


QUOTED = ["from operator import add, mul", "n = 2", "d = {n: 3}", "def even(x):\n    return x % n == 0", "f(d)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from m import f\nassert f(d) == 1", "from m import f\nn = 2\nd = {n: 3}\nassert f(d) == 1"),
        (
            "import m\n\nassert m.f(even, add)",
            "import m\n" + "\n".join((QUOTED[0], QUOTED[1], QUOTED[3])) + "\n\nassert m.f(even, add)",
        ),
        ("from m import f\nd = 5\nassert f(d)", None),
        ("from m import f\nassert [d for d in f()]", None),
        ("from m import f\nassert f(lambda n: n) == len('d')", None),
        ("assert f(d", None),
        ("assert f(nothing)", None),
    ],
)
def test_what_the_issue_binds_is_added(text: str, expected: str | None) -> None:
    assert bound(text, QUOTED) == (text if expected is None else expected)
    assert bound(text, []) == text
