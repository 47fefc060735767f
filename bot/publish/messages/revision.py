"""A revision in words: its count on the pull request, and the replies to what reviewers asked for."""

from collections.abc import Sequence

from bot.lifecycle import RunState
from bot.publish.messages.count import candidates_table, costs, headline, matrix, warnings
from bot.publish.messages.pull_request import REASON_LIMIT, listed_tests, takeable
from bot.publish.messages.reason import nobody, reason
from bot.publish.messages.states import in_words
from bot.publish.messages.words import counted, cut, folded, in_brief, listed, one_line, quoted
from bot.records import Cause, Issue, Remark, Report, Revision
from bot.sanitize import inline

_ANSWER = 1_200  # characters of the model's own words in a reply
_PATHS = 6


def refused(why: str) -> str:
    return f"Not revised: {in_brief(why)}."


def left_out(number: int, most: int) -> str:
    return f"The first {most} comments of the review are worked on; {number:,} more are not: ask again for those."


def asked_by(revision: Revision) -> str:
    """`a review by ann`, `failed checks`; no @, which would notify people."""
    if revision.cause is Cause.CHECKS:
        return f"failed checks ({_checks([remark.feedback.check for remark in revision.remarks])})"
    names = dict.fromkeys(inline(remark.feedback.author) for remark in revision.remarks)
    return f"{'a review' if len(revision.sources) == 1 else 'reviews'} by {listed(tuple(names))}"


def fail_before(checks: Sequence[str], base_commit: str) -> str:
    """These are not the pull request's doing."""
    do, them = ("fails", "it") if len(checks) == 1 else ("fail", "them")
    return (
        f"{_checks(checks)} {do} on {inline(base_commit[:10])}, too, from which this pull request begins: Troop does "
        f"not try to mend {them} here."
    )


def unreadable(why: str) -> str:
    """The repository's config asks for a revision after failed checks, which can't be looked at."""
    return f"Troop can't read the checks of this pull request, and mends none: {in_brief(why)}."


def _checks(names: Sequence[str]) -> str:
    shown = [inline(cut(name, 100)) for name in dict.fromkeys(names)]
    return listed(shown[:_PATHS]) + (" and more" if len(shown) > _PATHS else "")


def commit_message(report: Report, candidate: int) -> str:
    """Names what asked for it. No `#`: GitHub would mention every push in the issue."""
    assert report.revision is not None, "a revision is published"
    return message(report.issue, report.revision, report.verdict.number(candidate))


def message(issue: Issue, revision: Revision, number: int = 1) -> str:
    """That of the candidate with this number; without one, what it will be like."""
    title = cut(f"Revise: {one_line(issue.title) or 'an issue without a title'}", 200)
    why = "after checks failed" if revision.cause is Cause.CHECKS else "after a review"
    return (
        f"{title}\n\nFor pull request {revision.pull}, {why}; candidate {number}.\n\n"
        "Written by a language model and chosen by vote; see the pull request.\n"
    )


def revised(report: Report, commit: str, flagged: tuple[str, ...] = (), again: str = "") -> str:
    """The count of a revision that added a commit, as a comment of its own: the first count stays where it is."""
    assert report.revision is not None, "a revision is published"
    verdict = report.verdict
    assert verdict.winner is not None, "a revision that is pushed has a winner"
    which = f"candidate {verdict.number(verdict.winner)} of {len(verdict.ballot.candidates)}"
    said = f"After {asked_by(report.revision)}: {inline(commit[:10])} is {which}, chosen by vote."
    return _count(report, f"### Revised\n\n{said}", again, flagged)


def not_revised(report: Report) -> str:
    """The evidence of a revision that added nothing."""
    assert report.revision is not None, "a revision is published"
    said = f"After {asked_by(report.revision)}: {nobody(report.verdict)}, so the branch is as it was."
    end = "`/troop use N` adds a candidate to the branch all the same." if takeable(report, None) else ""
    return _count(report, f"### Not revised\n\n{said}", end)


def _count(report: Report, begin: str, end: str, flagged: tuple[str, ...] = ()) -> str:
    winner = report.verdict.winner
    parts = [
        begin,
        quoted(cut(reason(report), REASON_LIMIT)),
        warnings(report, flagged),
        headline(report),
        candidates_table(report, chosen=winner),
        folded("The vote matrix", matrix(report, chosen=winner)),
        _tests(report),
        folded("What it cost", costs(report)),
        end,
    ]
    return "\n\n".join(part for part in parts if part)


def _tests(report: Report) -> str:
    ballot = report.verdict.ballot
    voting = [(f"T{t + 1}", ballot.tests[t]) for t in ballot.voting]
    return folded(counted(len(voting), "voting test"), listed_tests(voting)) if voting else ""


def status_done(report: Report, commit: str) -> str:
    """The status comment on the pull request."""
    assert report.revision is not None, "a revision is published"
    return f"**Revised** after {asked_by(report.revision)}: {inline(commit[:10])} is on the branch; the count is below."


def status_abstained(report: Report) -> str:
    return f"**Not revised**: {nobody(report.verdict)}; the evidence is below."


def moved_on(why: str) -> str:
    """The branch is not where it was reviewed any more."""
    return (
        f"**Not revised**: {in_brief(why)}. Nothing was pushed, so that no commit is lost. "
        "Review what is there now, or write `/troop use 1` to have the revision on a branch of its own."
    )


def reply(report: Report, place: int, commit: str) -> str:
    """The answer to the remark at that place: the model's words, and what the commit changes of its file."""
    assert report.revision is not None, "a revision is published"
    assert report.verdict.winner is not None, "there is a commit"
    said = report.answers[place] if place < len(report.answers) else ""
    words = f"{one_line(cut(said, _ANSWER))}\n\n" if said else ""
    return f"{words}{_fact(report, report.revision.remarks[place], commit)}"


def _fact(report: Report, remark: Remark, commit: str) -> str:
    assert report.verdict.winner is not None, "there is a commit"
    paths = report.published(report.verdict.winner).paths
    path = remark.feedback.path
    if path and path not in paths:
        named = listed([inline(one) for one in paths[:_PATHS]]) + (" and more" if len(paths) > _PATHS else "")
        return f"<sub>{inline(commit[:10])} leaves {inline(path)} as it was; it changes {named}.</sub>"
    named = inline(path) if path else listed([inline(one) for one in paths[:_PATHS]])
    return f"<sub>{inline(commit[:10])} changes {named}.</sub>"


def reply_without(why: str) -> str:
    """The answer to each remark where the branch is as it was."""
    return f"Nothing was changed: {in_brief(why, 1_000)}."


def reply_to_end(state: RunState, why: str) -> str:
    """The answer to each remark where the run ended without a count."""
    told = f" ({in_brief(why)})" if why else ""
    return f"Nothing was changed: the run {in_words(state)}{told}."
