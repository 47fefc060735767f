"""Publish: the winner as a draft pull request with the whole count; or, where no candidate is credible, the evidence.

Every act is idempotent and fenced by the run's attempt. Where a worker dies between GitHub's answer and the commit to
the database, the next worker finds what is there and completes it: one branch, one pull request and one comment of each
kind.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from bot.contracts import Forge
from bot.errors import Refused, Unpublished
from bot.forge.branches import pull_number, push_branch
from bot.forge.markers import ALTERNATIVES, STATUS, question_marker
from bot.forge.signed_commits import unsignable
from bot.git.workspace import Workspace
from bot.patch.policy import check_patch
from bot.publish.bundle import count_again
from bot.publish.messages import alternatives, pull_request, status
from bot.publish.messages.check import check
from bot.publish.messages.labels import Labels
from bot.publish.messages.question import answered, question
from bot.publish.telling import Telling
from bot.records import Checkout, ClaimedRun, Outcome, Record, Report


class Published(Record):
    """What was published. All but `untold` is empty where the run abstained."""

    pull_request_url: str = ""
    branch: str = ""
    commit: str = ""
    untold: str = ""  # what GitHub refused of all that is said of it


async def unverified(run: ClaimedRun, checkout: Checkout, commit: str, pushed: str) -> tuple[str, ...]:
    """What to say of a commit that GitHub would have signed, but for its files; nothing of others.

    `commit`: as git made it here; `pushed`: as it is on GitHub.
    """
    if run.installation_id is None or pushed != commit:
        return ()
    why = await unsignable(Workspace(Path(checkout.workspace)), commit)
    return (f"the commit was pushed by git and is not verified, since {why}",) if why else ()


async def publish(
    forge: Forge,
    run: ClaimedRun,
    report: Report,
    checkout: Checkout,
    fence: Callable[[], Awaitable[None]],
    *,
    labels: Labels,
    page: str = "",
) -> Published:
    """Publish the report of a run that ended solved or abstained. `page`: the address of the run's page.

    `fence` is called before each act and raises `LeaseLost` where another worker has the run. Raises `Refused` for a
    patch that the policy refuses, `Unpublished`, once all candidates are told on the issue, where GitHub refuses the
    branch or the pull request, and `ForgeError`.
    """
    if report.verdict.outcome is Outcome.ABSTAINED:
        return await _abstain(forge, run, report, fence, labels=labels)
    winner = report.verdict.winner
    if report.verdict.outcome is not Outcome.SOLVED or winner is None:
        raise ValueError(f"a report with outcome {report.verdict.outcome.value} is not published")
    patch = report.published(winner)
    flagged = check_patch(patch)
    repository, number = run.repository, run.issue.number
    message = pull_request.commit_message(report, winner)
    commit = await forge.commit(checkout, patch, message, run.labelled_at)
    await fence()
    try:
        pushed = await push_branch(forge, repository, checkout, report, commit)
        await fence()
        again = await count_again(forge, repository, checkout, report)
        await fence()
        flagged = (*flagged, *await unverified(run, checkout, commit, pushed.commit))
        body = pull_request.body(report, flagged=flagged, page=page, again=again)
        url = await forge.pull_request(
            repository, pushed.branch, pull_request.title(report.issue), body, base=report.base_branch
        )
    except Refused as error:
        words = alternatives.unpublished(report, str(error))
        await Telling(fence)(lambda: forge.comment(repository, number, ALTERNATIVES, words))
        raise Unpublished(str(error)) from error
    telling, here = Telling(fence), pull_number(url) or number
    await telling(lambda: forge.check_run(repository, pushed.commit, check(report, winner, page)))
    rest = alternatives.alternatives(report, shown=winner)
    await telling(lambda: forge.comment(repository, here, ALTERNATIVES, rest))
    if run.again is not None and run.again.answer is not None:
        asking = run.again.of_run
        await telling(lambda: forge.comment(repository, number, question_marker(asking), answered(report)))
    await telling(lambda: forge.comment(repository, number, STATUS, status.solved(report, url)))
    await telling(lambda: forge.set_label(repository, number, labels.done, labels.known))
    return Published(pull_request_url=url, branch=pushed.branch, commit=pushed.commit, untold=telling.words)


async def _abstain(
    forge: Forge, run: ClaimedRun, report: Report, fence: Callable[[], Awaitable[None]], *, labels: Labels
) -> Published:
    repository, number = run.repository, run.issue.number
    telling = Telling(fence)
    await telling(lambda: forge.comment(repository, number, ALTERNATIVES, alternatives.evidence(report)))
    asks = report.verdict.parting is not None
    if asks:
        await telling(lambda: forge.comment(repository, number, question_marker(run.id), question(report)))
    await telling(lambda: forge.comment(repository, number, STATUS, status.abstained(report)))
    label = labels.question if asks else labels.abstained
    await telling(lambda: forge.set_label(repository, number, label, labels.known))
    return Published(untold=telling.words)
