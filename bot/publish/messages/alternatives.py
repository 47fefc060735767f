"""The runners-up, each diff folded; and the evidence where no candidate was chosen."""

from collections.abc import Sequence

from bot.patch.policy import judge
from bot.publish.messages.count import candidates_table, costs, headline, matrix, warnings
from bot.publish.messages.pull_request import REASON_LIMIT, listed_tests, takeable
from bot.publish.messages.reason import doubtful, nobody, reason, tally
from bot.publish.messages.words import code_html, counted, cut, folded, quoted, tests_or_examples
from bot.records import Report, Standing
from bot.sanitize import BODY_LIMIT, fence, neutralize

_ROOM = 4_000  # characters kept for what follows the diffs


def alternatives(report: Report, *, shown: int | None) -> str:
    """One comment with all candidates but the one that the pull request holds, best first, as many as fit."""
    rest = [s for s in report.verdict.standings if s.candidate != shown]
    if not rest:
        return "**There are no alternatives**: no other patch was made."
    what = "candidate" if shown is None else "alternative"
    opening = f"### {counted(len(rest), what)}\n\nBest first.{use(report, shown)}"
    return _with_diffs(report, rest, opening)


def use(report: Report, shown: int | None) -> str:
    """How another candidate is taken, where one may be published; with a space before it."""
    numbers = takeable(report, shown)
    if not numbers:
        return " None of them may be published."
    return (
        f" `/troop use {numbers[0]}` puts candidate {numbers[0]} on the pull request's branch; people with write "
        "permission may ask for it, here or there."
    )


def evidence(report: Report) -> str:
    """What an abstaining run shows on the issue instead of a pull request."""
    verdict = report.verdict
    parts = [
        f"### No pull request: {nobody(verdict)}\n\n{quoted(cut(reason(report), REASON_LIMIT))}",
        warnings(report),
        f"### The count\n\n{headline(report)}",
        candidates_table(report, chosen=None),
        f"#### The vote matrix\n\n{matrix(report, chosen=None)}",
        f"### What it cost\n\n{costs(report)}",
    ]
    tests = [(f"T{i + 1}", test) for i, test in enumerate(verdict.ballot.tests)]
    if tests:
        parts.append(
            folded(
                f"{counted(len(tests), 'test')} that {'was' if len(tests) == 1 else 'were'} written",
                listed_tests(tests, 12_000),
            )
        )
    again = "More detail in the issue (an example, the expected output, the file) helps the next try: `/troop retry`."
    if doubtful(report):
        again = "`/troop retry` tries again, once the sandbox has what is missing."
    if verdict.standings:
        which = "one of them" if len(verdict.standings) > 1 else "it"
        right = f"If {which} is right after all, `/troop use N` opens a pull request with it."
        right = right if takeable(report, None) else ""
        parts.append("\n\n".join(["### The candidates", f"{right} {again}".strip()]))
    else:
        parts.append(again)
    opening = "\n\n".join(part for part in parts if part)
    return _with_diffs(report, verdict.standings, opening)


def unpublished(report: Report, why: str) -> str:
    """All candidates, best first, where GitHub took neither the branch nor the pull request. `why`: in our words."""
    return _with_diffs(
        report,
        report.verdict.standings,
        f"### No pull request: GitHub refused it\n\n{quoted(cut(why, REASON_LIMIT))}\n\n"
        f"The count is kept: {counted(len(report.verdict.standings), 'candidate')}, best first. `/troop retry` begins "
        "anew with the repository as it is then.",
    )


def _with_diffs(report: Report, standings: Sequence[Standing], opening: str) -> str:
    """The opening and as many folds as fit whole; the rest by name."""
    parts = [opening]
    used = len(parts[0])
    left_out = []
    for standing in standings:
        fold = _fold(report, standing)
        if used + len(fold) > BODY_LIMIT - _ROOM:
            left_out.append(standing)
            continue
        parts.append(fold)
        used += len(fold) + 2
    if left_out:
        names = ", ".join(str(report.verdict.number(s.candidate)) for s in left_out[:200])
        more = f" and {len(left_out) - 200:,} more" if len(left_out) > 200 else ""
        parts.append(f"_There is no room here for the diffs of {names}{more}. `/troop use N` knows them too._")
    return "\n\n".join(parts)


def _fold(report: Report, standing: Standing) -> str:
    ballot = report.verdict.ballot
    patch = ballot.candidates[standing.candidate].patch
    paths = ", ".join(code_html(path) for path in patch.paths[:4]) + (" …" if len(patch.paths) > 4 else "")
    number, size = report.verdict.number(standing.candidate), counted(standing.size, "character")
    summary = f"<b>Candidate {number}</b>: {tally(report.verdict, standing)}, {size}, {paths}"
    said = []
    if standing.disqualified:
        said.append(f"It lost its votes: {neutralize(cut(standing.disqualified, 300))}.")
    if refused := judge(patch).refused:
        said.append(f"It may not be published: {neutralize(cut('; '.join(refused), 500))}.")
    if standing.regressions:
        said.append(f"It breaks {tests_or_examples(len(standing.regressions))} of the repository's own.")
    if standing.mended:
        said.append(f"It mends {counted(len(standing.mended), 'test')} of the repository's own.")
    return folded(summary, "\n\n".join([*said, fence(patch.diff, "diff")]))
