"""The one status comment of an issue, from the first second of a run to its end."""

from bot.forge.branches import pull_number
from bot.lifecycle import RunState
from bot.publish.messages.count import cost, headline
from bot.publish.messages.own_tests import unjudged
from bot.publish.messages.reason import nobody, passes
from bot.publish.messages.words import cut, duration, in_brief, one_line
from bot.records import Report
from bot.sanitize import inline

_STEPS = (
    (RunState.CHECKOUT, "Check out the repository and build its image"),
    (RunState.CONTEXT, "Read its files"),
    (RunState.TRAJECTORIES, "Sample tests and fixes"),
    (RunState.MATRIX, "Run every test on every candidate"),
    (RunState.SELECTION, "Choose among the best"),
    (RunState.PUBLISHING, "Publish"),
)
_BAR = 20  # characters


def running(state: RunState, done: int = 0, total: int = 0, note: str = "", *, seconds: float = 0.0) -> str:
    """The steps, with the progress of the current one. `seconds`: since this worker began."""
    order = [step for step, _ in _STEPS]
    at = order.index(state) if state in order else -1
    lines = []
    for i, (_, words) in enumerate(_STEPS):
        if i < at:
            lines.append(f"✓ {words}")
        elif i == at:
            lines.append(f"➜ **{words}**{_progress(done, total)}{f' · {one_line(cut(note, 200))}' if note else ''}")
        else:
            lines.append(f"· {words}")
    steps = "<br>\n".join(lines)
    since = f" · {duration(seconds)}" if seconds >= 1 else ""
    return f"**Troop is working on this issue**{since}\n\n{steps}\n\n<sub>`/troop stop` ends it.</sub>"


def _progress(done: int, total: int) -> str:
    if total <= 0:
        return ""
    done = max(0, min(done, total))
    full = done * _BAR // total
    return f" `{'█' * full}{'░' * (_BAR - full)}` {done:,} of {total:,}"


def solved(report: Report, pull_request_url: str) -> str:
    """`pull_request_url` is the forge's own."""
    verdict = report.verdict
    winner = verdict.winner
    assert winner is not None, "a solved run has a winner"
    pull = pull_number(pull_request_url)
    where = f"#{pull}" if pull is not None else pull_request_url or "on the branch"
    gate = unjudged(verdict)
    which = f"candidate {verdict.number(winner)} of {len(verdict.ballot.candidates)}"
    return (
        f"**Draft ready**: {where}, with {which}. It {passes(verdict, verdict.standing(winner))}.\n\n"
        f"{f'**Not checked**: {one_line(gate)}' + chr(10) * 2 if gate else ''}"
        f"{headline(report)} {_spent(report)}\n\n"
        "<sub>`/troop alternatives` shows the runners-up, `/troop retry` samples again.</sub>"
    )


def abstained(report: Report) -> str:
    if report.verdict.parting is not None:
        return (
            f"**A question**: {nobody(report.verdict)}; it is asked below.\n\n{headline(report)} "
            f"It took {duration(report.wall_seconds)}.\n\n<sub>`/troop answer A` or `/troop answer B` answers it, "
            "`/troop retry` samples again.</sub>"
        )
    return (
        f"**No pull request**: {nobody(report.verdict)}; the evidence is below.\n\n{headline(report)} "
        f"{_spent(report)}\n\n<sub>`/troop retry` samples again.</sub>"
    )


def _spent(report: Report) -> str:
    """Time and money, and which budget ended the sampling."""
    paid = f" and cost {cost(report)}" if report.currency else ""
    short = f" It was cut short: {one_line(report.cut_short)}; what there was is counted." if report.cut_short else ""
    return f"It took {duration(report.wall_seconds)}{paid}.{short}"


def waiting(reason: str) -> str:
    """Something is in the way that may pass."""
    return f"**Waiting**: {in_brief(reason, 2_000)}.\n\n<sub>`/troop stop` ends it.</sub>"


def ended(state: RunState, reason: str, sender: str = "", label: str = "troop", *, of_issue: bool = True) -> str:
    """A run that ended without a count: failed, stopped, refused or parked.

    `reason` is the operator's, a person's or an error's; a refusal without one: `sender` has no write permission.
    """
    why = in_brief(reason, 2_000)
    match state:
        case RunState.STOPPED:
            return f"**Stopped**: {why or 'somebody asked for it'}.\n\n<sub>`/troop retry` starts again.</sub>"
        case RunState.REFUSED:
            words = f"**Not started**: {why}." if why else refusal(sender, label)
            return words + ("\n\n<sub>The label that asked for it, if one did, was removed.</sub>" if of_issue else "")
        case RunState.PARKED:
            return (
                f"**Parked**: the run ended its worker too often and is not tried again automatically: {why}."
                "\n\nThe server's log says more. `/troop retry` starts again."
            )
        case RunState.FAILED:
            return (
                f"**Failed**: {why or 'the reason is in the log of the server'}.\n\nNo branch but Troop's own "
                "was touched. `/troop retry` tries again."
            )
        case _:
            raise ValueError(f"{state.value} is no end without a count")


def refusal(sender: str, label: str = "troop") -> str:
    """To somebody who labelled without permission. No @: a mention would notify people."""
    return (
        f"**Not started**: a run needs write permission, which {inline(sender)} does not have here. Somebody who has "
        f"it may label the issue {inline(label)}."
    )
