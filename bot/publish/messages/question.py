"""The one question where two behaviours remain: the smallest input on which they part, and a box to tick for each."""

from bot.publish.messages.parting import where_they_part
from bot.publish.messages.pull_request import listed_tests
from bot.publish.messages.words import counted, folded
from bot.records import Option, Parting, Report
from bot.sanitize import fence, inline

_DIFF = 8_000  # characters of each patch
_TEST = 4_000


def question(report: Report) -> str:
    """What a person is asked, on the issue."""
    parting = report.verdict.parting
    assert parting is not None, "two behaviours remain"
    parts = [
        "### Which one is right?",
        f"Two behaviours remain, and nothing says which of them the issue asks for.\n\n{where_they_part(parting)}",
        "\n".join(f"- [ ] {_option(report, parting, option)}" for option in Option),
        "Tick the one that is right, or write `/troop answer A` or `/troop answer B`; that needs write permission. The "
        "answer decides the count: the draft pull request follows without asking the model again.",
        *(_shown(report, parting, option) for option in Option),
    ]
    return "\n\n".join(parts)


def answered(report: Report) -> str:
    """The question once it was answered, without boxes."""
    found = report.verdict.answered
    assert found is not None, "a person answered"
    said = f"{inline(found.by)} answered **{found.option.value}**."
    return f"### Which one is right?\n\n{where_they_part(found.parting)}\n\n{said}"


def _option(report: Report, parting: Parting, option: Option) -> str:
    place = int(option is Option.B)
    candidate = parting.candidates[place]
    alike = counted(report.verdict.standing(candidate).cluster, "attempt")
    gives = f": {inline(parting.call)} gives {inline(parting.results[place])}" if parting.call else ""
    return f"**{option.value}**{gives} (candidate {report.verdict.number(candidate)}, {alike})"


def _shown(report: Report, parting: Parting, option: Option) -> str:
    place = int(option is Option.B)
    diff = report.verdict.ballot.candidates[parting.candidates[place]].patch.diff
    test = parting.tests[place]
    scripts = listed_tests([(f"T{test + 1}", report.verdict.ballot.tests[test])], _TEST)
    cut = f"{diff[:_DIFF]}\n[...]" if len(diff) > _DIFF else diff
    return folded(f"{option.value}: its patch, and the test that it alone passes", f"{fence(cut, 'diff')}\n\n{scripts}")
