"""What failed checks of our own pull request start: one revision, once, where the repository's config allows it.

Every completed check arrives, since the last one that ends tells whether any failed. Nobody is answered: a check has
no reader. What fails on the base commit as well is not ours, which is said once on the pull request.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from bot.contracts import Forge
from bot.errors import Refused, RetryRefused
from bot.forge.markers import CHECKS
from bot.lifecycle import ACTIVE
from bot.publish.messages import revision as messages
from bot.publish.runs import FollowedUp, Runs
from bot.records import Again, Cause, Check, CheckState, ClaimedCommand, Feedback, Remark, Revision
from bot.repo_config import FILE_NAME, RepoConfig, parse
from bot.sanitize.ci_logs import end_of_log

MOST_CHECKS = 5  # whose output is read
_OUTPUT = 6_000  # characters of one


async def by_checks(forge: Forge, runs: Runs, command: ClaimedCommand) -> FollowedUp:
    """Look at the checks of the commit that the command names; safe to call twice: the store knows what started which
    run. Raises `ForgeError`."""
    repository, branch, commit = command.repository, command.command.branch, command.command.commit
    config = parse(await forge.read_file(repository, FILE_NAME) or "")
    if not isinstance(config, RepoConfig) or not config.fix_ci:
        return FollowedUp(note="the repository does not ask for it ([publish] fix_ci)")
    number = await forge.open_pull(repository, branch)
    pull = None if number is None else await forge.pull_state(repository, number)
    if number is None or pull is None or not pull.ours or not pull.open or pull.head != commit:
        return FollowedUp(note="the commit is not the newest of a pull request of ours")
    run = await runs.newest(repository, pull.issue)
    counted = await runs.newest_counted(repository, pull.issue)
    if run is None or counted is None or run.state in ACTIVE:
        return FollowedUp(note="no run of the issue has ended with a count, or one is active")
    try:
        ours, note = await _failed(forge, repository, number, commit, counted.report.base_commit)
    except Refused as error:  # the repository asks for it, and the App may not read checks
        await forge.comment(repository, number, CHECKS, messages.unreadable(str(error)))
        return FollowedUp(note=str(error))
    if not ours:
        return FollowedUp(note=note)
    asked = Revision(
        pull=number,
        branch=branch,
        cause=Cause.CHECKS,
        sources=(command.comment_id,),
        remarks=await _remarks(forge, repository, ours),
        at=datetime.now(UTC),
        head=commit,
    )
    feedback = tuple(remark.feedback for remark in asked.remarks)
    again = Again(command_id=command.id, sender=run.sender, feedback=feedback, revision=asked)
    try:
        started = await runs.revise(run.id, again)
    except RetryRefused as error:
        return FollowedUp(note=f"not revised: {error}")
    return FollowedUp(note="was asked for before" if started is None else f"run {started}", started=started)


async def _failed(
    forge: Forge, repository: str, number: int, commit: str, base_commit: str
) -> tuple[tuple[Check, ...], str]:
    """The checks that fail on the commit and not on the base commit, once all have ended; or why there is none."""
    found = await forge.checks(repository, commit)
    failed = tuple(check for check in found if check.state is CheckState.FAILED)
    if not failed:
        return (), "no check has failed"
    if any(check.state is CheckState.PENDING for check in found):
        return (), "checks are still running"
    at_base = await forge.checks(repository, base_commit)
    # Several Apps, and several workflows, may have checks of one name.
    before = Counter((check.app, check.name) for check in at_base if check.state is CheckState.FAILED)
    theirs, ours = list[str](), list[Check]()
    for check in failed:
        key = check.app, check.name
        if before[key]:
            before[key] -= 1
            theirs.append(check.name)
        else:
            ours.append(check)
    if theirs:
        await forge.comment(repository, number, CHECKS, messages.fail_before(theirs, base_commit))
    if not ours:
        return (), "all failed checks fail on the base commit, too"
    ran = [check for place, check in enumerate(ours) if place >= MOST_CHECKS or await forge.ran(repository, check)]
    return tuple(ran), "" if ran else "no failed check has run"


async def _remarks(forge: Forge, repository: str, failed: Sequence[Check]) -> tuple[Remark, ...]:
    """One a check, with the end of what it printed; beyond `MOST_CHECKS` with the name alone."""
    remarks = []
    for place, check in enumerate(failed):
        printed = await forge.printed(repository, check) if place < MOST_CHECKS else ""
        body = end_of_log(printed, _OUTPUT)
        remarks.append(Remark(thread=0, feedback=Feedback(author="", body=body, check=check.name[:200])))
    return tuple(remarks)
