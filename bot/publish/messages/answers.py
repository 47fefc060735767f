"""Answers to `/troop ...` commands. Each is a comment of its own, under a marker of its own."""

import difflib
import re
from collections.abc import Sequence

from bot.lifecycle import ACTIVE, RunState
from bot.publish.messages.reason import tally
from bot.publish.messages.states import in_words
from bot.publish.messages.words import counted, cut, in_brief, one_line, tests_or_examples
from bot.records import NOT_WRITTEN, ClaimedCommand, CommandName, Option, Report, Verdict
from bot.sanitize import inline

_COMMANDS = (
    ("/troop status", "how far the run is, or how it ended"),
    ("/troop alternatives", "all other candidates, each with its votes and its diff"),
    ("/troop use N", "put candidate N on the pull request's branch"),
    ("/troop retry", "sample again"),
    ("/troop retry WORDS", "sample again, and tell the model what to do otherwise, in your words"),
    ("/troop retry --base BRANCH", "the same on another branch, which the pull request is then for; words may follow"),
    (
        "/troop more N",
        "N more attempts, which vote with those that there are; without a number, as many as the server makes",
    ),
    ("/troop answer A", "answer the question which of two behaviours, A or B, is right"),
    ("/troop stop", "stop the run"),
    ("/troop onboard", "open a pull request with a `.troop.toml` for this repository"),
    ("/troop help", "this list"),
)


_NUMBERED = {  # the name again, what it takes, and an example
    "use": ("use", "the number of one candidate", 2),
    "more": ("more", "how many attempts are added", 5),
}
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def misread(words: str) -> str:
    """What is wrong with words that are no command, and which one may be meant. They are a stranger's."""
    written = inline(f"/troop {words}")
    first, *rest = words.lower().split() or [""]
    known = [name.value for name in CommandName if name not in NOT_WRITTEN]
    near = difflib.get_close_matches(first, known, 1, 0.6)
    if (of := _NUMBERED.get(first) or _NUMBERED.get(near[0] if near else "")) is not None:
        name, takes, example = of
        number = _number(rest[0]) if rest else None
        hint = f"did you mean `/troop {name} {number}`?" if number else f"for example `/troop {name} {example}`."
        return f"{written} is no command: `{name}` takes {takes}, {hint}"
    if first == CommandName.ANSWER or near == [CommandName.ANSWER]:
        return f"{written} is no command: `answer` takes A or B, for example `/troop answer A`."
    if first == CommandName.RETRY and len(rest) > 0:
        return f"{written} is no command: `--base` takes the name of a branch, for example `--base release/1.x`."
    if first in known:
        return f"{written} is no command: `{first}` takes nothing more. Did you mean `/troop {first}`?"
    if near:
        return f"{written} is no command. Did you mean `/troop {near[0]}`?"
    return f"{written} is no command."


def asked(command: ClaimedCommand) -> str:
    """Who asked for what, where no comment above says it."""
    if not command.command.by_page:
        return ""
    number = f" {command.command.argument}" if command.command.argument is not None else ""
    who = "Troop's operator" if command.command.by_owner else inline(command.sender)
    return f"{who} asked on Troop's pages: `/troop {command.command.name.value}{number}`.\n\n"


def further(command: ClaimedCommand) -> str:
    """What was not done of a comment with several commands."""
    if not command.command.further:
        return ""
    more = counted(command.command.further, "further command")
    return f"\n\nThe comment has {more}, not carried out: each needs a comment of its own."


def _number(word: str) -> int | None:
    """The number that a word may mean: `two`, `#2,`, `2nd`."""
    if word in _NUMBERS:
        return _NUMBERS.index(word) + 1
    found = re.fullmatch(r"[#(]?([1-9][0-9]{0,3})(?:st|nd|rd|th)?[.,;:!?)]?", word)
    return int(found[1]) if found else None


def help_text(label: str = "troop", misread_words: str = "") -> str:
    """The list of commands; first, where there are some, what is wrong with words that are no command."""
    before = f"{misread(misread_words)} Nothing was done.\n\n" if misread_words else ""
    rows = "\n".join(f"| `{command}` | {words} |" for command, words in _COMMANDS)
    return (
        f"{before}Label an issue {inline(label)}, and Troop samples candidate fixes and lets tests vote on them. "
        "People with write permission may write, at the start of a line of a comment:\n\n"
        f"| | |\n|:--|:--|\n{rows}"
    )


def may_not(sender: str) -> str:
    """The one reply to somebody without permission."""
    return f"Commands need write permission, which {inline(sender)} does not have here. Nothing was done."


def no_run(label: str = "troop") -> str:
    return f"There is no run for this issue. Label the issue {inline(label)} to start one."


def status(state: RunState, progress: str, reason: str, pull_request_url: str = "") -> str:
    """`reason` of an ended run, `progress` of an active one, as the store has them."""
    if state in ACTIVE:
        return f"The run is active: {one_line(cut(progress, 300)) or in_words(state)}. `/troop stop` ends it."
    why = f": {in_brief(reason, 1_000)}" if reason else ""
    there = f" {pull_request_url}" if pull_request_url else ""
    return f"The newest run has ended (**{in_words(state)}**){why}.{there} `/troop retry` starts another."


def not_counted(state: RunState | None) -> str:
    """There is no count yet, so no alternatives."""
    if state is not None and state in ACTIVE:
        return f"The run is still active ({in_words(state)}); its candidates are known when it has ended."
    return "No run of this issue has ended with a count, so there are no candidates. `/troop retry` starts a run."


def unknown_candidate(asked: int | None, report: Report) -> str:
    total = len(report.verdict.ballot.candidates)
    if total == 0:
        return "The newest count has no candidate. `/troop retry` samples again."
    which = "`/troop use` needs a number" if asked is None else f"There is no candidate {asked}"
    known = "only candidate 1" if total == 1 else f"candidates 1 to {total}"
    return f"{which}: the newest count has {known}. `/troop alternatives` shows them."


def not_publishable(candidate: int, verdict: Verdict, why: str) -> str:
    return f"Candidate {verdict.number(candidate)} can't be used: {in_brief(why, 1_000)}."


def used(candidate: int, report: Report, pull_request_url: str, commit: str) -> str:
    standing = report.verdict.standing(candidate)
    there = f"{pull_request_url} now holds" if pull_request_url else "The branch now holds"
    caveat = ""
    if standing.disqualified:
        caveat = f" It had lost its votes: {one_line(cut(standing.disqualified, 300))}."
    elif standing.regressions:
        caveat = f" It breaks {tests_or_examples(len(standing.regressions))} of the repository."
    which = f"candidate {report.verdict.number(candidate)} ({tally(report.verdict, standing)})"
    return f"{there} {which}, as {inline(commit[:10])}.{caveat}"


def shown(url: str) -> str:
    return f"All candidates, with their diffs: {url}" if url else "All candidates are shown above."


def retried(run_id: int) -> str:
    return f"Run {run_id} is queued; the status comment shows how it goes."


def heard(words: bool, flags: Sequence[str] = ()) -> str:
    """What follows on the answer to a retry: that its words are read, and what of them is not."""
    said = " Your words are part of what every attempt is asked." if words else ""
    if flags:
        said += f" Text that readers of the comment don't see was removed first: {one_line('; '.join(flags))}."
    return said


def retried_later() -> str:
    return "The present run is still stopping; a new one starts as soon as it has stopped."


def no_branch(name: str) -> str:
    return f"Not started: this repository has no branch {inline(name)}."


def retry_refused(why: str) -> str:
    return f"Not started again: {in_brief(why)}."


def goes_on(run_id: int, of_run: int, kept: int, more: int) -> str:
    return (
        f"Run {run_id} goes on from run {of_run}: its {counted(kept, 'attempt')} and what their tests gave are kept, "
        f"and {more:,} more vote with them. The pull request is updated when the vote is over."
    )


def too_many(asked: int, most: int) -> str:
    return (
        f"{asked:,} attempts are more than this server adds at a time, which is {most:,} (TROOP_SOLVER_TRAJECTORIES)."
    )


def nothing_to_add_to(answered: bool) -> str:
    """More attempts can't vote in a count that was decided otherwise."""
    how = "a person's answer decided it" if answered else "it is of a revision, which a review starts again"
    return f"No attempts can be added to the newest count: {how}. `/troop retry` samples anew."


def answered(option: Option, run_id: int) -> str:
    return f"{option.value} it is. Run {run_id} publishes it; no model is asked again."


def no_question() -> str:
    return "There is no question to answer: the newest run of this issue asks none."


def stopping() -> str:
    return "The run is asked to stop; it ends at its next step."


def nothing_to_stop(state: RunState | None) -> str:
    if state is RunState.PUBLISHING:
        return "The run is being published, so it can't be stopped any more."
    how = f" The newest one: {in_words(state)}." if state is not None else ""
    return f"There is no active run to stop.{how}"


def failed(name: CommandName, why: str) -> str:
    return f"`/troop {name.value}` could not be carried out: {in_brief(why, 1_000)}."
