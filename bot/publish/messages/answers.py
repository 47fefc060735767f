"""Answers to `/troop ...` commands. Each is a comment of its own, under a marker of its own."""

from bot.lifecycle import ACTIVE, RunState
from bot.publish.messages.count import counted, number, one_line
from bot.records import CommandName, Report
from bot.sanitize import inline

_COMMANDS = (
    ("/troop status", "how far the run is, or how it ended"),
    ("/troop alternatives", "all other candidates, each with its votes and its diff"),
    ("/troop use N", "put candidate N on the pull request's branch"),
    ("/troop retry", "sample anew"),
    ("/troop stop", "stop the run"),
    ("/troop help", "this"),
)


def help_text(label: str = "troop") -> str:
    rows = "\n".join(f"| `{command}` | {words} |" for command, words in _COMMANDS)
    return (
        f"Label an issue {inline(label)}, and a troop of candidate fixes is sampled and put to the vote of tests. In a "
        "comment, at the start of a line, people with write permission may say:\n\n"
        f"| | |\n|:--|:--|\n{rows}"
    )


def may_not(sender: str) -> str:
    """One reply, to whoever has no permission."""
    return f"{inline(sender)} has no write permission here, which commands take. Nothing was done."


def no_run(label: str = "troop") -> str:
    return f"There is no run for this issue. Label the issue {inline(label)} to start one."


def status(state: RunState, progress: str, reason: str, pull_request_url: str = "") -> str:
    """`reason` of an ended run, `progress` of an active one, as the store has them."""
    if state in ACTIVE:
        how = f": {one_line(progress[:300])}" if progress else ""
        return f"The run is active, in state **{state.value}**{how}. `/troop stop` ends it."
    why = f": {one_line(reason[:1_000]).rstrip('.')}" if reason else ""
    there = f" {pull_request_url}" if pull_request_url else ""
    return f"The newest run ended **{state.value}**{why}.{there} `/troop retry` starts another."


def not_counted(state: RunState | None) -> str:
    """There is no count to take alternatives from."""
    if state is not None and state in ACTIVE:
        return f"The run is still active (**{state.value}**); its candidates are known when it has ended."
    return "No run of this issue has ended with a count, so there are no candidates. `/troop retry` starts a run."


def unknown_candidate(asked: int | None, report: Report) -> str:
    total = len(report.verdict.ballot.candidates)
    if total == 0:
        return "The newest count has no candidate at all. `/troop retry` samples anew."
    which = "`/troop use` wants a number" if asked is None else f"There is no candidate {asked}"
    known = "only candidate 1" if total == 1 else f"candidates 1 to {total}"
    return f"{which}: the newest count has {known}. `/troop alternatives` shows them."


def not_publishable(candidate: int, why: str) -> str:
    return f"Candidate {number(candidate)} can't be used: {one_line(why[:1_000]).rstrip('.')}."


def used(candidate: int, report: Report, pull_request_url: str, commit: str) -> str:
    standing = next(s for s in report.verdict.standings if s.candidate == candidate)
    votes = counted(standing.votes, "vote")
    there = f"{pull_request_url} now holds" if pull_request_url else "The branch now holds"
    caveat = ""
    if standing.disqualified:
        caveat = f" It had lost its votes: {one_line(standing.disqualified[:300])}."
    elif standing.regressions:
        caveat = f" Mind: it breaks {len(standing.regressions)} of the repository's own tests."
    return f"{there} candidate {number(candidate)} ({votes}), as {inline(commit[:10])}.{caveat}"


def shown(url: str) -> str:
    return f"All candidates, with their diffs: {url}" if url else "All candidates are shown above."


def retried(run_id: int) -> str:
    return f"Run {run_id} is queued; the status comment shows how it goes."


def retry_refused(why: str) -> str:
    return f"Not started again: {one_line(why[:500]).rstrip('.')}."


def stopping() -> str:
    return "The run is asked to stop; it ends at its next step."


def nothing_to_stop(state: RunState | None) -> str:
    if state is RunState.PUBLISHING:
        return "The run is being published: it can't be stopped any more."
    how = f" The newest one ended **{state.value}**." if state is not None else ""
    return f"There is no active run to stop.{how}"


def failed(name: CommandName, why: str) -> str:
    return f"`/troop {name.value}` could not be carried out: {one_line(why[:1_000]).rstrip('.')}."
