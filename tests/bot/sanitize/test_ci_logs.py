"""What of a log of CI is shown to a model."""

import pytest

from bot.sanitize.ci_logs import end_of_log

JOB = (
    "\ufeff2026-03-01T12:00:00.0000000Z ##[group]Run pytest\r\n"
    "2026-03-01T12:00:01.0000000Z \x1b[31mFAILED tests/test_a.py::test_x - assert 1 == 2\x1b[0m\r\n"
    "2026-03-01T12:00:02.0000000Z ##[error]Process completed with exit code 1.\r\n"
    "2026-03-01T12:00:03.0000000Z Post job cleanup.\r\n"
)


def test_it_ends_where_it_failed() -> None:
    assert end_of_log(JOB, 1_000).splitlines() == [
        "##[group]Run pytest",
        "FAILED tests/test_a.py::test_x - assert 1 == 2",
        "##[error]Process completed with exit code 1.",
    ]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("one\ntwo\nthree", "two\nthree"),
        ("one\ntwelve\nthree", "three"),
        ("x" * 50, "x" * 10),
        ("a\u200bb\u202e\x00", "ab"),
        ("first\n##[error]\nlast", "##[error]"),
        ("\x1b]8;;https://evil.example\x07link", "link"),
        ("", ""),
    ],
)
def test_little_is_left(text: str, left: str) -> None:
    assert end_of_log(text, 10) == left
