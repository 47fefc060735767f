"""Publish a revision: a commit on the reviewed branch, its count on the pull request, and a reply to each remark.

As `bot.publish.publish`: every act looks before it creates, and asks the fence first. A commit of somebody else is
never overwritten: where the branch has moved on since, nothing is pushed.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from bot.contracts import Forge, PullRequests
from bot.errors import BranchTaken
from bot.forge.markers import ALTERNATIVES, STATUS, reply_marker, revision_marker
from bot.lifecycle import RunState
from bot.patch.policy import check_patch
from bot.publish.bundle import count_again
from bot.publish.messages import alternatives
from bot.publish.messages import revision as messages
from bot.publish.messages.check import check
from bot.publish.messages.reason import nobody
from bot.publish.publish import unverified
from bot.publish.telling import Telling
from bot.records import Checkout, ClaimedRun, Outcome, Report

Fence = Callable[[], Awaitable[None]]


async def publish_revision(
    forge: Forge, run: ClaimedRun, report: Report, checkout: Checkout, fence: Fence, *, page: str = ""
) -> str:
    """Publish the report of a revision that ended solved or abstained; why the branch is as it was, "" where it is not.
    `page`: the address of the run's page.

    Raises as `publish`.
    """
    revision = run.revision
    assert revision is not None, "a revision is published"
    repository, pull, telling = run.repository, revision.pull, Telling(fence)
    if report.verdict.outcome is Outcome.ABSTAINED:
        why = nobody(report.verdict)
        await _say(forge, run, telling, revision_marker(run.id), messages.not_revised(report))
        await _reply_to_all(forge, run, telling, [messages.reply_without(why)] * len(revision.remarks))
        await _say(forge, run, telling, STATUS, messages.status_abstained(report))
        return why
    winner = report.verdict.winner
    assert winner is not None, "a solved run has a winner"
    patch = report.published(winner)
    flagged = check_patch(patch)
    made = await forge.commit(checkout, patch, messages.commit_message(report, winner), revision.at)
    await fence()
    try:
        now = await forge.pull_state(repository, pull)
        if not now.open and now.head == checkout.commit:  # else the commit is there already
            raise BranchTaken("the pull request is closed")
        commit = await forge.extend(repository, Path(checkout.workspace), revision.branch, made, checkout.commit)
    except BranchTaken as error:
        await _reply_to_all(forge, run, telling, [messages.reply_without(str(error))] * len(revision.remarks))
        await _say(forge, run, telling, STATUS, messages.moved_on(str(error)))
        return str(error)
    await telling(lambda: forge.check_run(repository, commit, check(report, winner, page)))
    await fence()
    again = await count_again(forge, repository, checkout, report)
    said = (*flagged, *await unverified(run, checkout, made, commit))
    words = messages.revised(report, commit, said, again)
    await _say(forge, run, telling, revision_marker(run.id), words)
    rest = alternatives.alternatives(report, shown=winner)
    await telling(lambda: forge.comment(repository, pull, ALTERNATIVES, rest))
    replies = [messages.reply(report, place, commit) for place in range(len(revision.remarks))]
    await _reply_to_all(forge, run, telling, replies)
    await _say(forge, run, telling, STATUS, messages.status_done(report, commit))
    return ""


async def reply_to_end(forge: PullRequests, run: ClaimedRun, state: RunState, why: str) -> None:
    """Answer each thread of a revision that ended without a count. Idempotent. Raises `ForgeError`."""
    assert run.revision is not None, "a revision is answered"
    words = messages.reply_to_end(state, why)
    for thread in dict.fromkeys(remark.thread for remark in run.revision.remarks):
        if thread:
            await forge.reply(run.repository, run.revision.pull, thread, reply_marker(run.id), words)


async def _reply_to_all(forge: Forge, run: ClaimedRun, telling: Telling, replies: list[str]) -> None:
    """One reply a thread, to all that was asked for there; what was asked for outside of threads is in the count."""
    assert run.revision is not None, "a revision is answered"
    pull = run.revision.pull
    threads: dict[int, list[str]] = {}
    for remark, words in zip(run.revision.remarks, replies, strict=True):
        threads.setdefault(remark.thread, []).append(words)
    marker = reply_marker(run.id)
    for thread, said in threads.items():
        words = "\n\n".join(dict.fromkeys(said))
        if thread:
            await telling(partial(forge.reply, run.repository, pull, thread, marker, words))
        else:
            await telling(partial(forge.comment, run.repository, pull, marker, words))


async def _say(forge: Forge, run: ClaimedRun, telling: Telling, marker: str, words: str) -> None:
    assert run.revision is not None, "a revision is told of"
    await telling(partial(forge.comment, run.repository, run.revision.pull, marker, words))
