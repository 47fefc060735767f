"""Follow-up: what `/troop ...` in a comment asks for, once its author is known to have write permission.

Every command is answered by one comment, under a marker of its own, so that a command executed twice is answered once.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import assert_never

from bot.contracts import MAY_WRITE, Forge
from bot.errors import CheckoutError, ForgeError, RateLimited, Refused, RetryRefused
from bot.forge.branches import pull_number, push_branch
from bot.forge.markers import ALTERNATIVES, answer_marker, refusal_marker
from bot.lifecycle import ACTIVE
from bot.patch.policy import check_patch
from bot.publish.bundle import count_again
from bot.publish.checking import by_checks
from bot.publish.judging import judge
from bot.publish.messages import alternatives, answers, onboarding, pull_request
from bot.publish.messages.check import check
from bot.publish.messages.labels import Labels
from bot.publish.messages.onboarding import Proposal
from bot.publish.onboarding import open_onboarding
from bot.publish.revising import by_review
from bot.publish.runs import Counted, FollowedUp, RunNow, Runs
from bot.records import Again, Checkout, ClaimedCommand, CommandName, Feedback, Option, Outcome, Report
from bot.repo_config import FILE_NAME
from bot.sanitize import clean

_NO_COMMENT = {CommandName.REVISE: by_review, CommandName.CHECKS: by_checks, CommandName.JUDGE: judge}


class FollowUp:
    """Executes commands for one installation. `check_out(commit)` gives a checkout of the command's repository at that
    commit, of the default branch where that is "", which the caller removes. `propose` looks at one for a
    config. `page(run_id)`: the address of a run's page, "" where it has none. `most_more`: attempts added at a time."""

    def __init__(
        self,
        forge: Forge,
        runs: Runs,
        check_out: Callable[[str], Awaitable[Checkout]],
        *,
        labels: Labels,
        propose: Callable[[Checkout], Awaitable[Proposal]],
        page: Callable[[int], str],
        most_more: int,
    ) -> None:
        self._forge = forge
        self._runs = runs
        self._check_out = check_out
        self._labels = labels
        self._propose = propose
        self._page = page
        self._most_more = most_more

    async def execute(self, command: ClaimedCommand) -> FollowedUp:
        """Execute and answer; safe to call twice.

        Raises `ForgeError` where GitHub can't check the permission or take the answer; the command may then be executed
        again.
        """
        if (act := _NO_COMMENT.get(command.command.name)) is not None:
            return await act(self._forge, self._runs, command)
        repository, here = command.repository, command.issue_number
        if not command.command.by_owner and await self._forge.permission(repository, command.sender) not in MAY_WRITE:
            # One reply for each such person, however many commands they write.
            marker, words = refusal_marker(command.sender), answers.may_not(command.sender)
            await self._forge.comment(repository, here, marker, words)
            return FollowedUp(note=f"refused: {command.sender} has no write permission")
        if command.comment_id > 0:  # not from a page
            with contextlib.suppress(ForgeError):  # a comment that was deleted meanwhile still asked
                await self._forge.react(repository, command.comment_id)
        issue = await self._forge.resolve_issue(repository, here)
        try:
            words, started = await self._carry_out(command, issue)
        except RetryRefused as error:
            words, started = answers.retry_refused(str(error)), None
        words = answers.asked(command) + words + answers.further(command)
        marker = answer_marker(command.id, command.command.name)
        await self._forge.comment(repository, here, marker, words)
        return FollowedUp(note=f"{command.command.name.value}: {words[:200]}", started=started)

    async def _carry_out(self, command: ClaimedCommand, issue: int) -> tuple[str, int | None]:
        """The answer, and the id of a run that was started. Raises `RetryRefused`."""
        repository, name = command.repository, command.command.name
        run = await self._runs.newest(repository, issue)
        match name:
            case CommandName.HELP:
                return answers.help_text(self._labels.wanted, command.command.misread), None
            case CommandName.STATUS:
                if run is None:
                    return answers.no_run(self._labels.wanted), None
                return answers.status(run.state, run.progress, run.reason, run.pull_request_url or ""), None
            case CommandName.STOP:
                reason = f"{command.sender} asked for it"
                if (
                    run is not None
                    and run.state in ACTIVE
                    and await self._runs.request_stop(run.id, reason, asked_at=command.asked_at)
                ):
                    return answers.stopping(), None
                return answers.nothing_to_stop(run.state if run else None), None
            case CommandName.RETRY:
                return await self._retry(command, run)
            case CommandName.ALTERNATIVES | CommandName.USE | CommandName.MORE:
                counted = await self._runs.newest_counted(repository, issue)
                if counted is None:
                    return answers.not_counted(run.state if run else None), None
                if name is CommandName.ALTERNATIVES:
                    return await self._alternatives(command, counted.report), None
                if name is CommandName.MORE:
                    return await self._more(command, counted)
                return await self._use(command, issue, counted), None
            case CommandName.ONBOARD:
                return await self._onboard(command), None
            case CommandName.ANSWER:
                return await self._answer(command, run)
            case CommandName.REVISE | CommandName.JUDGE | CommandName.CHECKS:
                raise AssertionError("it is no comment")
            case _:
                assert_never(name)

    async def _onboard(self, command: ClaimedCommand) -> str:
        """Look at the default branch, and open the pull request with a config."""
        try:
            checkout = await self._check_out("")
            if FILE_NAME in checkout.files:
                return onboarding.there_already()
            proposal = await self._propose(checkout)
            url = await open_onboarding(self._forge, command.repository, checkout, proposal, self._labels.wanted)
        except RateLimited:
            raise
        except (Refused, CheckoutError) as error:
            return onboarding.not_opened(str(error))
        return onboarding.opened(url, proposal)

    async def _retry(self, command: ClaimedCommand, run: RunNow | None) -> tuple[str, int | None]:
        if run is None:
            return answers.no_run(self._labels.wanted), None
        base = command.command.base
        if base and not await self._forge.tip(command.repository, base):
            return answers.no_branch(base), None
        words = clean(command.command.words)
        asked = [Feedback(author=command.sender, body=words.text)] if words.text.strip() else []
        again = Again(
            command_id=command.id,
            sender=command.sender,
            by_owner=command.command.by_owner,
            feedback=tuple(asked),
            flags=words.flags,
            base=base,
        )
        started = await self._runs.start_again(run.id, again)
        heard = answers.heard(bool(asked), words.flags)
        return f"{answers.retried_later() if started is None else answers.retried(started)}{heard}", started

    async def _more(self, command: ClaimedCommand, counted: Counted) -> tuple[str, int | None]:
        """A run that goes on from the counted one, with more attempts."""
        more, report = command.command.argument or self._most_more, counted.report
        if more > self._most_more:
            return answers.too_many(more, self._most_more), None
        if report.revision is not None or report.verdict.answered is not None:
            return answers.nothing_to_add_to(report.revision is None), None
        again = Again(
            command_id=command.id,
            sender=command.sender,
            by_owner=command.command.by_owner,
            more=more,
            base=report.base_branch,
            of_run=counted.run_id,
        )
        started = await self._runs.start_again(counted.run_id, again)
        if started is None:
            return answers.retried_later(), None
        return answers.goes_on(started, counted.run_id, len(report.trajectories), more), started

    async def _answer(self, command: ClaimedCommand, run: RunNow | None) -> tuple[str, int | None]:
        """Publish the behaviour that the person chose, from the count of the run that asked."""
        option = command.command.option
        assert option is not None, "an answer names an option"
        report = None if run is None else await self._runs.report(run.id)
        if run is None or report is None or report.verdict.parting is None:
            again = await self._runs.started_by(command.id)  # executed twice: the newest run is the one that it started
            return (answers.no_question(), None) if again is None else (answers.answered(option, again), again)
        parting, place = report.verdict.parting, int(option is Option.B)
        must = [f"`{parting.call}` must give `{parting.results[place]}`."] if parting.call else []
        why = clean(command.command.words)
        said = "\n\n".join([*must, *([why.text] if why.text.strip() else [])])
        again_asked = Again(
            command_id=command.id,
            sender=command.sender,
            feedback=(Feedback(author=command.sender, body=said),) if said else (),
            flags=why.flags,
            answer=option,
            of_run=run.id,
        )
        started = await self._runs.start_again(run.id, again_asked)
        return (answers.retried_later() if started is None else answers.answered(option, started)), started

    async def _alternatives(self, command: ClaimedCommand, report: Report) -> str:
        """All of them, where the command was given, even if another comment has them."""
        if report.verdict.outcome is Outcome.ABSTAINED:
            words = alternatives.evidence(report)
        else:
            words = alternatives.alternatives(report, shown=None)
        url = await self._forge.comment(command.repository, command.issue_number, ALTERNATIVES, words)
        return answers.shown(url)

    async def _use(self, command: ClaimedCommand, issue: int, counted: Counted) -> str:
        """Move the pull request's branch to the candidate, and update the pull request's text."""
        report, page = counted.report, self._page(counted.run_id)
        asked = command.command.argument
        chosen = report.verdict.candidate(asked) if asked is not None else None
        if chosen is None:
            return answers.unknown_candidate(asked, report)
        patch = report.published(chosen)
        try:
            flagged = check_patch(patch)
            checkout = await self._check_out(report.parent)
            message = pull_request.commit_message(report, chosen)
            moment = report.labelled_at if report.revision is None else report.revision.at
            commit = await self._forge.commit(checkout, patch, message, moment)
            pushed = await push_branch(self._forge, command.repository, checkout, report, commit)
        except RateLimited:
            raise
        except (Refused, CheckoutError) as error:
            return answers.not_publishable(chosen, report.verdict, str(error))
        rest = alternatives.alternatives(report, shown=chosen)
        url, pull = "", 0 if report.revision is None else report.revision.pull
        if report.revision is None or pushed.branch != report.revision.branch:
            by = "" if chosen == report.verdict.winner else command.sender
            again = await count_again(self._forge, command.repository, checkout, report)
            body = pull_request.body(report, candidate=chosen, chosen_by=by, flagged=flagged, page=page, again=again)
            title = pull_request.title(report.issue)
            base = report.base_branch
            url = await self._forge.pull_request(command.repository, pushed.branch, title, body, base=base)
            pull = pull_number(url) or report.issue.number
        # Else the pull request's own text has the first count.
        await self._forge.check_run(command.repository, pushed.commit, check(report, chosen, page))
        await self._forge.comment(command.repository, pull, ALTERNATIVES, rest)
        await self._runs.judge_choice(command.repository, issue, chosen, command.sender, url)
        return answers.used(chosen, report, url, pushed.commit)
