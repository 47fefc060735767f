"""What is shown of a long output."""

from bot.records import Ending, Execution


def of(output: str) -> Execution:
    return Execution(ending=Ending.EXITED, exit_code=1, output=output)


def test_a_short_output_is_shown_whole() -> None:
    assert of("one\ntwo\n").excerpt(2, 7) == "one\ntwo"


def test_many_prints_hide_neither_the_beginning_nor_the_end() -> None:
    prints = "\n".join(f"case {n}" for n in range(130))
    shown = of(f"AssertionError: first\n{prints}\nAssertionError: last\n").excerpt(40, 8_000)
    lines = shown.splitlines()
    assert lines[0] == "AssertionError: first"
    assert lines[-1] == "AssertionError: last"
    assert "[... 92 lines, " in lines[10]
    assert len(lines) == 41


def test_one_long_line_is_cut_by_characters() -> None:
    shown = of("a" * 100 + "b" * 100).excerpt(10, 110)
    assert len(shown) <= 110
    assert shown == "a" * 10 + "\n[... 1 line, 160 characters left out ...]\n" + "b" * 30


def test_lines_are_not_cut_in_their_middle() -> None:
    lines = [f"line {i} of the output, with words" for i in range(100)]
    for characters in (300, 301, 317, 1_000):
        shown = of("\n".join(lines)).excerpt(60, characters).split("\n")
        assert [line for line in shown if line not in lines] == [line for line in shown if line.startswith("[... ")]
        assert (shown[0], shown[-1]) == (lines[0], lines[-1])
        assert len("\n".join(shown)) <= characters
