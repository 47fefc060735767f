"""What a review of our own pull request starts: a run that revises it.

Only a person with write permission starts one. Others may review as well, and bots do; they get no answer.
"""

from bot.contracts import MAY_WRITE, Forge
from bot.errors import RetryRefused
from bot.forge.markers import answer_marker
from bot.publish.messages import revision as messages
from bot.publish.runs import FollowedUp, Runs
from bot.records import Act, Again, Cause, ClaimedCommand, Feedback, Remark, Review, Revision
from bot.sanitize import clean
from bot.webhook import mention

MOST_REMARKS = 30  # of one review; what is left out is said
_HUNK_LINES = 12  # of the diff above a comment, beside the lines that it is about
_MOST_LINES = 60


async def by_review(forge: Forge, runs: Runs, command: ClaimedCommand) -> FollowedUp:
    """Start what the review asks for; safe to call twice: the store knows which review started which run.

    `command.comment_id` is the review's id. Raises `ForgeError` where GitHub can't be asked; it may be tried again.
    """
    repository, number = command.repository, command.issue_number
    pull = await forge.pull_state(repository, number)
    if not pull.ours or not pull.open:
        return FollowedUp(note="the pull request is closed" if pull.ours else "the pull request is not ours")
    if await forge.permission(repository, command.sender) not in MAY_WRITE:
        return FollowedUp(note=f"ignored: {command.sender} has no write permission")
    review = await forge.review(repository, number, command.comment_id)
    if review.author != command.sender:
        return FollowedUp(note="the review's author is not the sender")
    if review.dismissed:
        return FollowedUp(note="the review was dismissed")
    if review.requests_changes:
        await runs.judge(repository, number, Act.CHANGES_REQUESTED, command.sender)
    remarks, flags = remarks_of(review, await forge.own_login())
    if not remarks:
        return FollowedUp(note="the review asks for nothing")
    run = await runs.newest(repository, pull.issue)
    if run is None:
        return FollowedUp(note="no run of the issue is known")
    asked = Revision(
        pull=number,
        branch=pull.branch,
        cause=Cause.REVIEW,
        sources=(review.id,),
        remarks=remarks[:MOST_REMARKS],
        at=review.at,
    )
    again = Again(
        command_id=command.id,
        sender=command.sender,
        feedback=tuple(remark.feedback for remark in asked.remarks),
        flags=flags,
        revision=asked,
    )
    try:
        started = await runs.revise(run.id, again)
    except RetryRefused as error:
        await _say(forge, command, messages.refused(str(error)))
        return FollowedUp(note=f"not revised: {error}")
    if len(remarks) > MOST_REMARKS:
        await _say(forge, command, messages.left_out(len(remarks) - MOST_REMARKS, MOST_REMARKS))
    note = "a revision waits for the active run" if started is None else f"run {started} revises it"
    return FollowedUp(note=note, started=started)


async def _say(forge: Forge, command: ClaimedCommand, words: str) -> None:
    marker = answer_marker(command.id, command.command.name)
    await forge.comment(command.repository, command.issue_number, marker, words)


def remarks_of(review: Review, own_login: str) -> tuple[tuple[Remark, ...], tuple[str, ...]]:
    """What the review asks for, cleaned, and what cleaning removed. Pure.

    The text of the review itself asks for something where the review requests changes, comments on lines, or says that
    text to us. Commands are no remarks: they are carried out by themselves.
    """
    flags: set[str] = set()
    remarks = []

    def add(thread: int, body: str, **where: object) -> None:
        if mention.command_in(body, own_login) is not None:
            return
        cleaned = clean(body)
        flags.update(cleaned.flags)
        if cleaned.text.strip():
            remarks.append(Remark(thread=thread, feedback=Feedback(author=review.author, body=cleaned.text, **where)))

    said_to_us = mention.find(review.body, own_login.removesuffix("[bot]"))
    if review.requests_changes or review.comments or (said_to_us is not None and said_to_us.addressed):
        add(0, review.body)
    for comment in review.comments:
        about = (comment.line or 0) - (comment.first or comment.line or 0)
        hunk = "\n".join(comment.hunk.splitlines()[-min(_HUNK_LINES + about, _MOST_LINES) :])
        add(comment.thread, comment.body, path=comment.path, line=comment.line, first=comment.first, hunk=hunk)
    return tuple(remarks), tuple(sorted(flags))
