"""The pull request: its title, its body, the commit's message."""

from collections.abc import Sequence

from bot.forge.markers import issue_marker
from bot.patch.policy import judge
from bot.publish.messages.count import candidates_table, costs, headline, matrix, warnings
from bot.publish.messages.differences import differences
from bot.publish.messages.parting import where_they_part
from bot.publish.messages.reason import passes, reason, tally
from bot.publish.messages.words import counted, cut, folded, one_line, quoted
from bot.records import Issue, Report, Standing, Test
from bot.sanitize import fence, inline

TITLE_LIMIT = 200  # characters; GitHub takes 256
REASON_LIMIT = 6_000
TESTS_LIMIT = 24_000  # characters of scripts in the body


def title(issue: Issue) -> str:
    """One line, harmless as the title of a squashed commit too."""
    words = one_line(issue.title) or "an issue without a title"
    return cut(f"Fix: {words}", TITLE_LIMIT)


def commit_message(report: Report, candidate: int) -> str:
    """Names the issue and the candidate. No `#`: GitHub would mention every push in the issue."""
    verdict = report.verdict
    by = "vote" if candidate == verdict.winner and verdict.answered is None else "a person"
    return message(report.issue, verdict.number(candidate), tally(verdict, verdict.standing(candidate)), by)


def message(issue: Issue, number: int = 1, counted: str = "passes 1 of 1 test", by: str = "vote") -> str:
    """That of the candidate with this number; without one, what it will be like. `by`: who chose it."""
    which = f"\n\nFor issue {issue.number}, candidate {number}." if issue.number else ""
    count = f"It {counted}, of those that reproduce the bug."
    chosen = f"Written by a language model and chosen by {by}; see the pull request."
    return f"{title(issue)}{which}\n\n{count}\n{chosen}\n"


def body(
    report: Report,
    *,
    candidate: int | None = None,
    chosen_by: str = "",
    flagged: Sequence[str] = (),
    page: str = "",
    again: str = "",
) -> str:
    """The whole count. `candidate`: the index of the one that the branch holds, where it is not the winner; then
    `chosen_by` is the login of the person who asked for it. `page`: the address of the run's page, where
    it has one. `again`: how anybody counts again."""
    shown = report.verdict.winner if candidate is None else candidate
    assert shown is not None, "a pull request holds a candidate"
    issue = report.issue.number
    others = differences(report, shown)
    parts = [
        f"{issue_marker(issue)}\nFixes #{issue}." if issue else "",
        _described(report, shown),
        _choice(report, report.verdict.standing(shown), chosen_by),
        f"How the others behave:\n\n{others}" if others else "",
        _answered(report),
        _regression_test(report, shown),
        warnings(report, flagged),
        f"### The count\n\n{headline(report)}",
        candidates_table(report, chosen=shown),
        folded("The vote matrix", matrix(report, chosen=shown)),
        _tests(report),
        folded("What it cost", costs(report)),
        again,
        f"[The whole run, with every conversation]({page})" if page else "",
        _footer(report, shown),
    ]
    return "\n\n".join(part for part in parts if part)


def _described(report: Report, shown: int) -> str:
    """The model's description of the winner; "" for another candidate, and where there is none."""
    said = report.description
    if said is None or shown != report.verdict.winner:
        return ""
    rows = [("What was wrong", said.cause), ("What it does", said.change), ("To look at", said.check)]
    words = "\n>\n".join(f"> **{name}:** {one_line(text)}" for name, text in rows if text)
    return f"{words}\n>\n> <sub>These are the model's own words.</sub>"


def _answered(report: Report) -> str:
    """Which of two behaviours a person chose, and the test that decides since."""
    found = report.verdict.answered
    if found is None:
        return ""
    test = report.verdict.ballot.tests[found.test]
    answer = f"{inline(found.by)} answered **{found.option.value}**: T{found.test + 1} decides."
    said = f"{where_they_part(found.parting)} {answer}"
    return f"{said}\n\n{folded('The test that decides', listed_tests([(f'T{found.test + 1}', test)]))}"


def _regression_test(report: Report, shown: int) -> str:
    test = report.regression_test
    if test is None or shown != report.verdict.winner:
        return ""
    command = f" ({inline(' '.join(test.command))})" if test.command else ""
    base = "reviewed state" if report.reviewed_commit else "base commit"
    said = f"It brings a regression test, {inline(test.change.path)}, which fails on the {base} and passes here"
    return f"{said}{command}."


def _choice(report: Report, standing: Standing, chosen_by: str) -> str:
    verdict = report.verdict
    why = quoted(cut(reason(report), REASON_LIMIT))
    which = f"candidate {verdict.number(standing.candidate)} of {len(verdict.ballot.candidates)}"
    if not chosen_by:
        by = "vote" if verdict.answered is None else f"the answer of {inline(verdict.answered.by)}"
        return f"**This is {which}, chosen by {by}.**\n\n{why}"
    vote = f"candidate {verdict.number(verdict.winner)}" if verdict.winner is not None else "none"
    return (
        f"**This is {which}; {inline(chosen_by)} chose it.** It {passes(verdict, standing)}.\n\n"
        f"The count chose {vote}:\n\n{why}"
    )


def _tests(report: Report) -> str:
    ballot = report.verdict.ballot
    voting = [(f"T{i + 1}", ballot.tests[i]) for i in ballot.voting]
    more = [(f"S{i + 1}", test) for i, test in enumerate(report.verdict.selection_tests)]
    folds = []
    if voting:
        words = "The test that reproduces" if len(voting) == 1 else f"The {len(voting):,} tests that reproduce"
        folds.append(folded(f"{words} the bug", listed_tests(voting)))
    if struck := [(f"T{one.test + 1}", ballot.tests[one.test]) for one in report.verdict.struck]:
        folds.append(folded(f"{counted(len(struck), 'test')} without a vote", listed_tests(struck, TESTS_LIMIT // 3)))
    if more:
        words = f"{counted(len(more), 'test')} that the model wrote to choose among the best"
        folds.append(folded(words, listed_tests(more, TESTS_LIMIT // 3)))
    return "\n\n".join(folds)


def listed_tests(tests: Sequence[tuple[str, Test]], limit: int = TESTS_LIMIT) -> str:
    """Scripts, each in a block of its own, as many as fit."""
    blocks: list[str] = []
    used = 0
    for name, test in tests:
        block = f"**{name}** {inline(test.path[:120])}\n\n{fence(test.text, language_of(test.path))}"
        if used + len(block) > limit:
            blocks.append(f"_{counted(len(tests) - len(blocks), 'more test')} did not fit here._")
            break
        blocks.append(block)
        used += len(block)
    return "\n\n".join(blocks)


def language_of(path: str) -> str:
    """The language of a code block, by the ending of the path."""
    return path.rpartition(".")[2] if "." in path else ""


def _footer(report: Report, shown: int) -> str:
    others = takeable(report, shown)
    use = f"`/troop use {others[0]}` puts another one here; " if others else ""
    rest = "`/troop alternatives` shows the runners-up, " if len(report.verdict.standings) > 1 else ""
    return f"---\nA language model wrote this; read it before you merge it. {use}{rest}`/troop help` all commands."


def takeable(report: Report, shown: int | None) -> tuple[int, ...]:
    """The numbers of the candidates that `/troop use` would take, best first, without the one that is shown."""
    verdict = report.verdict
    rest = [s for s in verdict.standings if s.candidate != shown]
    fit = [s for s in rest if not judge(verdict.ballot.candidates[s.candidate].patch).refused]
    return tuple(verdict.number(s.candidate) for s in sorted(fit, key=lambda s: bool(s.disqualified)))
