"""What became of a pull request of ours, kept as a judgement of the run's winner."""

from bot.contracts import MAY_WRITE, Forge
from bot.publish.runs import FollowedUp, Runs
from bot.records import Act, ClaimedCommand

# GitHub lets only those do it who may write, and a merge queue, whose permission can't be asked for.
PROVED = frozenset({Act.MERGED, Act.REVERTED})


async def judge(forge: Forge, runs: Runs, command: ClaimedCommand) -> FollowedUp:
    """Keep it; safe to call twice. Closing and reviewing are open to more people, and count from those who may write.

    Raises `ForgeError` where GitHub can't be asked; then it may be tried again.
    """
    act = command.command.act
    assert act is not None, "a judgement names what was done"
    if act not in PROVED and await forge.permission(command.repository, command.sender) not in MAY_WRITE:
        return FollowedUp(note=f"ignored: {command.sender} has no write permission")
    kept = await runs.judge(command.repository, command.issue_number, act, command.sender)
    stopped = ""
    if act in (Act.MERGED, Act.CLOSED):  # a commit would be added to what is over
        why = f"{command.sender} {'merged' if act is Act.MERGED else 'closed'} the pull request"
        if await runs.stop_revision(command.repository, command.issue_number, why, asked_at=command.asked_at):
            stopped = "; its revision is stopped"
    return FollowedUp(note=f"{act.value}: {'kept' if kept else 'not kept'}{stopped}")
