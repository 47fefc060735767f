"""The count as Markdown: the table of candidates, the vote matrix, what it cost.

Candidates are numbered by rank, the winner 1 (`Verdict.number`), wherever people read of them: in tables, in reasons,
in `/troop use N`, on the console and on the pages.
"""

from collections.abc import Sequence

from bot.publish.messages.differential import answers_otherwise
from bot.publish.messages.obstacles import words_of
from bot.publish.messages.own_tests import briefly, unjudged
from bot.publish.messages.reason import before, by_answer, doubtful, share
from bot.publish.messages.unproven import remark, unproven
from bot.publish.messages.words import counted, cut, duration, listed, one_line, verb
from bot.records import Ballot, Candidate, Report, Standing, TrajectoryEnd, money
from bot.sanitize import fence, inline

PASS, FAIL, UNKNOWN = "✓", "✗", "·"
TABLE_TESTS = 16  # a matrix with more columns, or more rows, is drawn as text instead of a table
TABLE_CANDIDATES = 24
TEXT_TESTS = 96
TEXT_CANDIDATES = 64
LISTED_CANDIDATES = 30  # rows of the table of candidates


def headline(report: Report) -> str:
    """What the count says, in two sentences of numbers."""
    ballot = report.verdict.ballot
    voting = len(ballot.voting)
    said = _made(report)
    if not ballot.tests:
        return said
    if ballot.unsteady:
        number = len(ballot.unsteady)
        said += f" {counted(number, 'test')} {verb(number, 'fails', 'fail')} on {before(ballot)} now and then, and so "
        said += f"{verb(number, 'has no vote', 'have no votes')}."
    answered = sum(by_answer(report.verdict, one) for one in report.verdict.struck)
    for lost, why in ((len(ballot.struck) - answered, "the model calls"), (answered, "a person's answer calls")):
        if lost:
            said += f" {counted(lost, 'test')} that failed on {before(ballot)} lost "
            said += f"{verb(lost, 'its vote', 'their votes')}: {why} {verb(lost, 'it', 'them')} wrong."
    if not voting:
        return f"{said} No test reproduces the bug, so there are no votes."
    which, it = ("One test", "it fails") if voting == 1 else (f"{voting:,} tests", "they fail")
    why = f"{verb(voting, 'reproduces', 'reproduce')} the bug: {it} on {before(ballot)}, and so may vote"
    if doubtful(report):
        fails = verb(voting, "fails", "fail")
        why = f"{fails} on {before(ballot)}, and so may vote; that need not be for the bug"
    return f"{said} {which} {why}."


def _made(report: Report) -> str:
    """Who made how many patches and tests."""
    ballot = report.verdict.ballot
    sampled = sum(bool(one.trajectories) for one in ballot.candidates)
    written = sum(bool(one.parents) for one in ballot.candidates)
    tests = sum(map(bool, ballot.authors)) if ballot.authors else len(ballot.tests)
    more = [
        counted(written, "patch of the selection's own", "patches of the selection's own"),
        counted(len(ballot.candidates) - sampled - written, "patch from elsewhere", "patches from elsewhere"),
        counted(len(ballot.tests) - tests, "test of an earlier run", "tests of earlier runs"),
    ]
    added = [words for words in more if not words.startswith("0 ")]
    return (
        f"{counted(len(report.trajectories), 'attempt')} produced "
        f"{counted(sampled, 'different patch', 'different patches')} and {counted(tests, 'different test')}"
        f"{f'; added to them: {listed(added)}' if added else ''}."
    )


def candidates_table(report: Report, *, chosen: int | None) -> str:
    """One row a candidate, best first. `chosen`: the index of the one that the pull request holds."""
    verdict = report.verdict
    if not verdict.standings:
        return "_There is no candidate: no attempt produced an edit that applies._"
    rows = [
        "| Candidate | Tests passed | Same results | Same patch | Size | Remarks |",
        "|--:|--:|--:|--:|--:|:--|",
    ]
    shown = list(verdict.standings[:LISTED_CANDIDATES])
    shown += [s for s in verdict.standings[LISTED_CANDIDATES:] if s.candidate == chosen]
    rows += [_row(report, standing, standing.candidate == chosen) for standing in shown]
    rest = len(verdict.standings) - len(shown)
    if rest:
        rows += ["", f"_Not shown: {counted(rest, 'candidate')} further down in the count._"]
    legend = (
        f"**Tests passed**: of those that fail on {before(verdict.ballot)} and so may vote; _its own_ are those that "
        "no other attempt wrote, and count for less. **Same results**: attempts whose patch has the same in the vote "
        "matrix. **Same patch**: attempts that produced this very patch. **Size**: characters added and removed."
    )
    return "\n".join([*rows, "", f"<sub>{legend}</sub>"])


def _row(report: Report, standing: Standing, chosen: bool) -> str:
    ballot = report.verdict.ballot
    passed, number = share(report.verdict, standing), str(report.verdict.number(standing.candidate))
    values = [
        f"➜ **{number}**" if chosen else number,
        f"**{passed}**" if chosen else passed,
        str(standing.cluster),
        str(len(ballot.candidates[standing.candidate].trajectories)),
        f"{standing.size:,}",
        remarks(report, standing),
    ]
    return f"| {' | '.join(values)} |"


def remarks(report: Report, standing: Standing) -> str:
    """What else is to be known of a candidate, safe within a table's cell."""
    candidate: Candidate = report.verdict.ballot.candidates[standing.candidate]
    said = []
    if standing.disqualified:
        said.append(f"lost its votes: {inline(cut(standing.disqualified, 300))}")
    if standing.regressions:
        first = inline(cut(standing.regressions[0], 120))
        more = f" and {len(standing.regressions) - 1} more" if len(standing.regressions) > 1 else ""
        said.append(f"breaks {first}{more}")
    if standing.mended:
        more = f" and {len(standing.mended) - 1} more" if len(standing.mended) > 1 else ""
        said.append(f"mends {inline(cut(standing.mended[0], 120))}{more}")
    if not standing.regressions and (words := briefly(report.verdict, standing.candidate)):
        said.append(words)
    if report.verdict.ballot.fails_own(standing.candidate):
        said.append("fails a test of its own attempt")
    if unproved := remark(report.verdict.ballot, standing.candidate):
        said.append(unproved)
    if words := answers_otherwise(report.verdict, standing.candidate):
        said.append(words)
    if candidate.parents:
        numbers = sorted(report.verdict.number(parent) for parent in candidate.parents)
        said.append(f"written in the selection from {listed(numbers)}")
    elif candidate.sources:
        said.append(f"from {listed([inline(cut(source, 80)) for source in candidate.sources])}")
    elif not candidate.trajectories:
        said.append("external patch")
    return "; ".join(said)


def matrix(report: Report, *, chosen: int | None) -> str:
    """Every test on every candidate and on the base commit: a table, or where that is too large, text."""
    ballot = report.verdict.ballot
    if not ballot.tests or not ballot.candidates:
        return "_There is nothing to show: no test was run on a candidate._"
    # Tests that vote come first.
    votes = ballot.fails_on_base
    tests = sorted(range(len(ballot.tests)), key=lambda t: (not votes[t], t))
    order = [standing.candidate for standing in report.verdict.standings]
    if len(tests) <= TABLE_TESTS and len(order) <= TABLE_CANDIDATES:
        return _matrix_table(report, tests, order, chosen)
    return _matrix_text(report, tests, order, chosen)


def _matrix_table(report: Report, tests: Sequence[int], order: Sequence[int], chosen: int | None) -> str:
    ballot = report.verdict.ballot
    votes = ballot.fails_on_base
    reviewed = [_glyph(ballot.reviewed[t]) for t in tests] if ballot.reviewed else []
    lines = [
        "| | " + " | ".join(f"T{t + 1}" for t in tests) + " |",
        "|--:|" + ":-:|" * len(tests),
        "| _base commit_ | " + " | ".join(_glyph(ballot.base[t]) for t in tests) + " |",
        *([f"| _reviewed state_ | {' | '.join(reviewed)} |"] if reviewed else []),
        "| _votes_ | " + " | ".join("yes" if votes[t] else _silent(ballot, t) for t in tests) + " |",
    ]
    for c in order:
        own = ballot.own(c)
        glyphs = ((_glyph(ballot.cells[c][t]), own[t]) for t in tests)
        cells = (f"({glyph})" if alone else glyph for glyph, alone in glyphs)
        number = report.verdict.number(c)
        label = f"➜ **{number}**" if c == chosen else str(number)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    legend = f"{PASS} passes, {FAIL} fails, {UNKNOWN} could not be run; in brackets: written with the candidate"
    return "\n".join([*lines, "", f"<sub>{legend}. T1, T2, ...: the tests.</sub>"])


def _silent(ballot: Ballot, test: int) -> str:
    """Why the test has no vote; "" where it passes on the base commit or could not be run there."""
    return "struck" if test in ballot.struck else "now and then" if test in ballot.unsteady else ""


def _matrix_text(report: Report, tests: Sequence[int], order: Sequence[int], chosen: int | None) -> str:
    """One character for each cell, so that 64 candidates by 64 tests fit a screen."""
    ballot = report.verdict.ballot
    shown_tests, shown = tests[:TEXT_TESTS], list(order[:TEXT_CANDIDATES])
    if chosen is not None and chosen not in shown:
        shown[-1] = chosen
    voting = sum(ballot.fails_on_base[t] for t in shown_tests)

    def line(label: str, cells: Sequence[bool | None]) -> str:
        drawn = "".join({True: "█", False: "░", None: UNKNOWN}[cell] for cell in cells)
        return f"{label:>10} {drawn[:voting]} {drawn[voting:]}".rstrip()

    lines = [line("base", [ballot.base[t] for t in shown_tests])]
    if ballot.reviewed:
        lines.append(line("reviewed", [ballot.reviewed[t] for t in shown_tests]))
    for c in shown:
        label = f"{'-> ' if c == chosen else ''}{report.verdict.number(c)}"
        lines.append(line(label, [ballot.cells[c][t] for t in shown_tests]))
    left = (len(order) - len(shown), len(tests) - len(shown_tests))
    cut = f" Not shown: {counted(left[0], 'candidate')} and {counted(left[1], 'test')}." if any(left) else ""
    legend = (
        f"One row for each candidate, one column for each test: █ passes, ░ fails, {UNKNOWN} could not be run. "
        f"Left of the gap: {counted(voting, 'test')} that may vote.{cut}"
    )
    return f"{fence(chr(10).join(lines))}\n\n<sub>{legend}</sub>"


def _glyph(cell: bool | None) -> str:
    return {True: PASS, False: FAIL, None: UNKNOWN}[cell]


def by_stage(report: Report) -> str:
    """The tokens of each stage and their share, such as `context 1,200 (12%), ...`; "" where they are not known."""
    sizes = {stage: u.prompt_tokens + u.completion_tokens for stage, u in report.usage_by_stage.items()}
    total = sum(sizes.values())
    return ", ".join(f"{stage} {size:,} ({100 * size / total:.0f}%)" for stage, size in sizes.items() if size)


def cost(report: Report) -> str:
    """`0.42 USD`; "" where a model has no price."""
    return money(report.usage.cost, report.currency) if report.currency else ""


def cost_by_stage(report: Report) -> str:
    """`trajectories 0.40 USD, selection 0.02 USD`, those that cost something."""
    if not report.currency:
        return ""
    spent = [(stage, used.cost) for stage, used in report.usage_by_stage.items() if used.cost]
    return ", ".join(f"{stage} {money(amount, report.currency)}" for stage, amount in spent)


def costs(report: Report) -> str:
    """What was done and what it cost, as a list."""
    ends = {end: sum(t.end is end for t in report.trajectories) for end in TrajectoryEnd}
    with_patch = sum(t.patch is not None for t in report.trajectories)
    how = ", ".join(f"{n} {end.value}" for end, n in ends.items() if n)
    usage, context = report.usage, report.context
    computed = max(0, usage.prompt_tokens - usage.cached_tokens)
    rows = [
        ("Attempts", f"{len(report.trajectories):,}, of which {with_patch:,} produced a patch ({how or 'none'})"),
        (
            "Tokens",
            f"{computed:,} computed, {usage.cached_tokens:,} from the cache, {usage.completion_tokens:,} generated",
        ),
        ("By stage", by_stage(report)),
        ("Cost", f"{cost(report)}{f' ({stages})' if (stages := cost_by_stage(report)) else ''}"),
        ("Time", f"{duration(report.wall_seconds)}, and {duration(usage.seconds)} of model time"),
        ("Model", f"{inline(report.model or 'unnamed')}, {counted(usage.calls, 'call')}"),
        (
            "Context",
            f"{counted(context.considered, 'file')} read, {context.relevant} relevant, {len(context.files)} shown "
            f"({context.tokens:,} tokens)",
        ),
    ]
    if report.verdict.selection_tests:
        rows.append(("Selection", f"{counted(len(report.verdict.selection_tests), 'test')} written to choose"))
    if report.base_commit:
        rows.append(("Base", inline(report.base_commit[:12])))
    return "\n".join(f"- **{name}**: {value}" for name, value in rows if value)


def warnings(report: Report, flagged: Sequence[str] = ()) -> str:
    """What a maintainer needs to know first, as an alert of GitHub's; "" where there is nothing."""
    said = []
    if report.issue.flags:
        found = "; ".join(inline(flag) for flag in report.issue.flags)
        said.append(f"The issue holds text that its readers don't see. It was removed before a model read it: {found}.")
    said += [f"Look closely: {inline(words)}." for words in flagged]
    said += [one_line(words) for words in [unjudged(report.verdict), unproven(report.verdict)] if words]
    if report.verdict.abstention is None:  # else the reason begins with them
        said += [one_line(words_of(obstacle)) for obstacle in report.obstacles]
    said += [one_line(note) for note in report.notes]
    if not said:
        return ""
    return "\n".join(["> [!WARNING]", *(f"> - {words}" for words in said)])
