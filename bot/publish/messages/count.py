"""The count as Markdown: the table of candidates, the vote matrix, what it cost.

Candidates are numbered by their place in the ballot, from 1, wherever people read of them: in tables, in reasons, in
`/troop use N`, and on the console.
"""

from collections.abc import Sequence
from html import escape

from bot.records import Ballot, Candidate, Ending, Report, Standing, TrajectoryEnd
from bot.sanitize import fence, inline, neutralize

PASS, FAIL, UNKNOWN = "✓", "✗", "·"
TABLE_TESTS = 16  # a matrix with more columns, or more rows, is drawn as text instead of a table
TABLE_CANDIDATES = 24
TEXT_TESTS = 96
TEXT_CANDIDATES = 64
LISTED_CANDIDATES = 30  # rows of the table of candidates


def number(candidate: int) -> int:
    """How people are told of the candidate with that index."""
    return candidate + 1


def counted(n: int, noun: str, plural: str = "") -> str:
    """`1 vote`, `2 votes`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """`8 s`, `4 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def headline(report: Report) -> str:
    """What the count says, in two sentences of numbers."""
    ballot = report.verdict.ballot
    voting = sum(ballot.fails_on_base)
    said = (
        f"{counted(len(report.trajectories), 'trajectory', 'trajectories')} ended in "
        f"{counted(len(ballot.candidates), 'different patch', 'different patches')} and "
        f"{counted(len(ballot.tests), 'different test')}."
    )
    if not ballot.tests:
        return said
    fail = "fails" if voting == 1 else "fail"
    return f"{said} {voting} of the tests {fail} on the untouched code, and so may vote."


def voting_passed(report: Report, candidate: int) -> tuple[int, int]:
    """How many of the tests that may vote pass on the candidate, its own among them; and how many may vote."""
    ballot = report.verdict.ballot
    voting = [t for t, fails in enumerate(ballot.fails_on_base) if fails]
    return sum(ballot.cells[candidate][t] is True for t in voting), len(voting)


def votes_words(report: Report, standing: Standing) -> str:
    """`2 votes and 1 of its own; 3 of the 3 tests that may vote pass on it`."""
    passed, voting = voting_passed(report, standing.candidate)
    own = f" and {standing.own_votes} of its own" if standing.own_votes else ""
    return f"{counted(standing.votes, 'vote')}{own}; {passed} of the {counted(voting, 'test')} that may vote pass on it"


def candidates_table(report: Report, *, chosen: int | None) -> str:
    """One row a candidate, best first. `chosen`: the index of the one that the pull request holds."""
    verdict = report.verdict
    if not verdict.standings:
        return "_There is no candidate: no trajectory ended with an edit that applies._"
    rows = [
        "| | Candidate | Votes | Own votes | Voting tests passed | Tests passed | Cluster | Size | Samples | Remarks |",
        "|:-:|--:|--:|--:|--:|--:|--:|--:|--:|:--|",
    ]
    shown = list(verdict.standings[:LISTED_CANDIDATES])
    shown += [s for s in verdict.standings[LISTED_CANDIDATES:] if s.candidate == chosen]
    rows += [_row(report, standing, standing.candidate == chosen) for standing in shown]
    rest = len(verdict.standings) - len(shown)
    if rest:
        rows += ["", f"_Not shown: {counted(rest, 'candidate')} that the count places further down._"]
    legend = (
        "**Votes**: tests of other trajectories that fail on the untouched code and pass on the candidate. **Own "
        "votes**: the same, of tests that its own trajectory wrote; shown, but counted apart. **Cluster**: samples "
        "whose patch passes just the same tests. **Size**: characters added and removed. **Samples**: trajectories "
        "that ended in this very patch."
    )
    return "\n".join([*rows, "", f"<sub>{legend}</sub>"])


def _row(report: Report, standing: Standing, chosen: bool) -> str:
    ballot = report.verdict.ballot
    candidate, cells = ballot.candidates[standing.candidate], ballot.cells[standing.candidate]
    ran = sum(cell is not None for cell in cells)
    passed, voting = voting_passed(report, standing.candidate)
    votes = str(standing.votes)
    values = [
        "➜" if chosen else "",
        f"**{number(standing.candidate)}**" if chosen else str(number(standing.candidate)),
        f"**{votes}**" if chosen else votes,
        str(standing.own_votes),
        f"{passed} of {voting}",
        f"{sum(cell is True for cell in cells)} of {ran}",
        str(standing.cluster),
        f"{standing.size:,}",
        str(len(candidate.trajectories)),
        remarks(report, standing),
    ]
    return f"| {' | '.join(values)} |"


def remarks(report: Report, standing: Standing) -> str:
    """What else must be known of a candidate, safe within a table's cell."""
    candidate: Candidate = report.verdict.ballot.candidates[standing.candidate]
    said = []
    if standing.disqualified:
        said.append(f"lost its votes: {inline(standing.disqualified[:300])}")
    if standing.regressions:
        first = inline(standing.regressions[0][:120])
        more = f" and {len(standing.regressions) - 1} more" if len(standing.regressions) > 1 else ""
        said.append(f"breaks {first}{more}")
    own = report.verdict.own_tests.on(standing.candidate) if report.verdict.own_tests else None
    if own is not None and not standing.regressions and own.execution.ending is not Ending.UNAVAILABLE:
        passes = own.execution.passed
        said.append("the repository's own tests pass" if passes else "breaks nothing that passed before")
    if not candidate.trajectories:
        said.append("from elsewhere")
    return "; ".join(said)


def matrix(report: Report, *, chosen: int | None) -> str:
    """Every test on every candidate and on the untouched code: a table, or where that is too large, text."""
    ballot = report.verdict.ballot
    if not ballot.tests or not ballot.candidates:
        return "_There is nothing to show: no test was run on a candidate._"
    # Tests that vote stand first.
    tests = sorted(range(len(ballot.tests)), key=lambda t: (not ballot.fails_on_base[t], t))
    order = [standing.candidate for standing in report.verdict.standings]
    if len(tests) <= TABLE_TESTS and len(order) <= TABLE_CANDIDATES:
        return _matrix_table(report, tests, order, chosen)
    return _matrix_text(report, tests, order, chosen)


def _matrix_table(report: Report, tests: Sequence[int], order: Sequence[int], chosen: int | None) -> str:
    ballot = report.verdict.ballot
    votes = ballot.fails_on_base
    lines = [
        "| | " + " | ".join(f"T{number(t)}" for t in tests) + " |",
        "|--:|" + ":-:|" * len(tests),
        "| _untouched_ | " + " | ".join(_glyph(ballot.base[t]) for t in tests) + " |",
        "| _may vote_ | " + " | ".join("yes" if votes[t] else "" for t in tests) + " |",
    ]
    for c in order:
        glyphs = ((_glyph(ballot.cells[c][t]), _is_own(ballot, c, t)) for t in tests)
        cells = (f"({glyph})" if own else glyph for glyph, own in glyphs)
        label = f"➜ **{number(c)}**" if c == chosen else str(number(c))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    legend = f"{PASS} passes, {FAIL} fails, {UNKNOWN} could not be run; in brackets: a test of the candidate's own"
    return "\n".join([*lines, "", f"<sub>{legend}. T1, T2, ...: the tests.</sub>"])


def _matrix_text(report: Report, tests: Sequence[int], order: Sequence[int], chosen: int | None) -> str:
    """A character a cell: 64 candidates by 64 tests are read at a glance, as a picture."""
    ballot = report.verdict.ballot
    shown_tests, shown = tests[:TEXT_TESTS], list(order[:TEXT_CANDIDATES])
    if chosen is not None and chosen not in shown:
        shown[-1] = chosen
    voting = sum(ballot.fails_on_base[t] for t in shown_tests)

    def line(label: str, cells: Sequence[bool | None]) -> str:
        drawn = "".join({True: "█", False: "░", None: UNKNOWN}[cell] for cell in cells)
        return f"{label:>10} {drawn[:voting]} {drawn[voting:]}".rstrip()

    lines = [line("untouched", [ballot.base[t] for t in shown_tests])]
    for c in shown:
        label = f"-> {number(c)}" if c == chosen else str(number(c))
        lines.append(line(label, [ballot.cells[c][t] for t in shown_tests]))
    left = (len(order) - len(shown), len(tests) - len(shown_tests))
    cut = f" Not shown: {counted(left[0], 'candidate')} and {counted(left[1], 'test')}." if any(left) else ""
    legend = (
        f"A row a candidate, a column a test: █ passes, ░ fails, {UNKNOWN} could not be run. "
        f"Left of the gap stand the {counted(voting, 'test')} that may vote.{cut}"
    )
    return f"{fence(chr(10).join(lines))}\n\n<sub>{legend}</sub>"


def _is_own(ballot: Ballot, candidate: int, test: int) -> bool:
    """Whether the candidate's one trajectory alone wrote the test: then its vote is counted apart."""
    of = ballot.candidates[candidate]
    if len(of.trajectories) != 1:
        return False
    return ballot.authors[test] == of.trajectories if ballot.authors else test in of.tests


def _glyph(cell: bool | None) -> str:
    return {True: PASS, False: FAIL, None: UNKNOWN}[cell]


def costs(report: Report) -> str:
    """What was done and what it took, as a list."""
    ends = {end: sum(t.end is end for t in report.trajectories) for end in TrajectoryEnd}
    with_patch = sum(t.patch is not None for t in report.trajectories)
    how = ", ".join(f"{n} {end.value}" for end, n in ends.items() if n)
    usage, context = report.usage, report.context
    computed = max(0, usage.prompt_tokens - usage.cached_tokens)
    rows = [
        ("Trajectories", f"{len(report.trajectories)} sampled, {with_patch} finished with a patch ({how or 'none'})"),
        (
            "Tokens",
            f"{computed:,} computed, {usage.cached_tokens:,} from the cache, {usage.completion_tokens:,} generated",
        ),
        ("Time", f"{duration(report.wall_seconds)} by the clock, {duration(usage.seconds)} of model time"),
        ("Model", f"{inline(report.model or 'unnamed')}, {counted(usage.calls, 'call')}"),
        (
            "Context",
            f"{counted(context.considered, 'file')} read, {context.relevant} relevant, {len(context.files)} shown "
            f"({context.tokens:,} tokens)",
        ),
    ]
    if report.verdict.selection_tests:
        rows.append(("Selection", f"{counted(len(report.verdict.selection_tests), 'more test')} written to choose"))
    if report.base_commit:
        rows.append(("Base", inline(report.base_commit[:12])))
    return "\n".join(f"- **{name}**: {value}" for name, value in rows)


def warnings(report: Report, flagged: Sequence[str] = ()) -> str:
    """What a maintainer must know before anything else, as GitHub's own kind of alert; "" where there is nothing."""
    said = []
    if report.issue.flags:
        found = "; ".join(inline(flag) for flag in report.issue.flags)
        said.append(f"The issue held text that its readers don't see. It was removed before a model read it: {found}.")
    said += [f"Look closely: {inline(words)}." for words in flagged]
    said += [one_line(note) for note in report.notes]
    if not said:
        return ""
    return "\n".join(["> [!WARNING]", *(f"> - {words}" for words in said)])


def one_line(text: str) -> str:
    """Prose on one line, harmless."""
    return neutralize(" ".join(text.split()))


def folded(summary_html: str, inside: str) -> str:
    """A fold. The summary is HTML, already escaped."""
    return f"<details>\n<summary>{summary_html}</summary>\n\n{inside}\n\n</details>"


def code_html(text: str, limit: int = 120) -> str:
    """Code for a fold's summary, where Markdown means nothing. GitHub looks for no mentions in code."""
    text = " ".join(text.split())
    return f"<code>{escape(text[:limit] + ('…' if len(text) > limit else ''))}</code>"
