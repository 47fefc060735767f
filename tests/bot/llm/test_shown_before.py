"""Lines that a conversation shows already."""

from hypothesis import given
from hypothesis import strategies as st

from bot.llm.shown_before import LEFT_OUT, Shown

FUNCTION = [f"    step_{i} = compute(step_{i - 1}, {i} * 1_000_000)" for i in range(1, 31)]
FILE = "\n".join(["import os", "", "def run(step_0):", *FUNCTION, "", "", "def other():", "    return 1"])


def test_a_long_run_that_is_shown_leaves_its_first_two_lines_and_its_last() -> None:
    printed = "\n".join(["# a comment before it", "def run(step_0):", *FUNCTION, "    return step_30"])
    told = Shown(["issue", f"<file>\n{FILE}\n</file>"]).without(printed)
    assert told.split("\n") == [
        "# a comment before it",
        "def run(step_0):",
        FUNCTION[0],
        LEFT_OUT.format(28),
        FUNCTION[-1],
        "    return step_30",
    ]


def test_changed_lines_are_shown() -> None:
    changed = [*FUNCTION[:15], "    step_15 = other()", *FUNCTION[16:]]
    told = Shown([FILE]).without("\n".join(changed))
    assert "    step_15 = other()" in told.split("\n")
    assert told.count("shown above already") == 2


def test_numbered_lines_are_the_same_lines() -> None:
    for form in ("{:>6}\t{}", "{}:{}", "{}-{}"):
        printed = "\n".join(form.format(i + 40, line) for i, line in enumerate(FUNCTION))
        told = Shown([FILE]).without(printed).split("\n")
        assert told == [*printed.split("\n")[:2], LEFT_OUT.format(27), printed.split("\n")[-1]]


def test_short_runs_and_lines_in_another_order_are_shown_whole() -> None:
    for lines in (FUNCTION[:7], FUNCTION[::-1], FUNCTION[::2]):
        assert Shown([FILE]).without("\n".join(lines)) == "\n".join(lines)


def test_no_run_goes_over_the_end_of_a_text() -> None:
    told = Shown(["\n".join(FUNCTION[:7]), "\n".join(FUNCTION[7:14])]).without("\n".join(FUNCTION[:14]))
    assert told == "\n".join(FUNCTION[:14])


@given(
    st.lists(st.lists(st.sampled_from([*FUNCTION[:12], "", "}"]), max_size=40), max_size=3),
    st.lists(st.sampled_from([*FUNCTION[:12], "", "}"]), max_size=60),
)
def test_what_is_left_out_stands_above(texts: list[list[str]], printed: list[str]) -> None:
    """Between the line before a remark and the one after it stand, in a text, as many lines as it says."""
    before = ["\n".join(lines) for lines in texts]
    told = Shown(before).without("\n".join(printed)).split("\n")
    at = 0
    for line in told:
        if not line.startswith("[... "):
            assert line == (printed[at] if printed else "")
            at += 1
        else:
            count = int(line.split()[1])
            assert any("\n".join(printed[at : at + count]) in text for text in before)
            at += count
    assert at == max(1, len(printed))
