"""The selection: the model chooses among the best, writing new tests; else the first in the count wins, or none."""

import re
from collections.abc import Sequence

from bot.contracts import Model, Progress, Sandbox
from bot.records import Abstention, Choice, NoWinner, Outcome, Rule, Verdict
from bot.solver.ballot import Count, abstention, clear_lead, credible, one_of_each, overruled
from bot.solver.confidence import confidence
from bot.solver.parting import two_behaviours
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.choice_machine import End, Question, finalists_of
from bot.solver.stages.choosing import Choosing
from bot.solver.stages.deliberation import Deliberation


async def select(
    question: Question, count: Count, model: Model, sandbox: Sandbox, solver: ResolvedSolver, progress: Progress
) -> Verdict:
    """Choose a credible candidate, or abstain.

    The model is not asked where only one candidate is credible. One that is not able to deliberate, whose choice is
    worth little, is not asked either where one behaviour is clearly ahead (`bot.solver.ballot.clear_lead`), or where
    all behave alike; other models are, since patches that no test tells apart yet can still differ. Where the model
    never chooses, the first in the count wins. Raises `SandboxUnavailable`; an endpoint that fails ends the selection,
    not the run.

    A choice against the selection's own evidence (its test fails on the base commit and on the chosen candidate, and
    passes on another) is questioned once. An abstention says which two behaviours remain, if there are two; where a
    capable model could not choose between two that are equally credible, that is an abstention as well.
    """
    able = credible(count.standings, count.ballot)
    if not able:
        return _abstained(count, End(Rule.NO_CHOICE, count))
    if len(able) == 1:
        ended = End(Rule.ONLY_CREDIBLE, count)
    elif not solver.deliberates and len(one_of_each(able, count.ballot)) == 1:
        ended = End(Rule.TYPICAL, count)
    elif not solver.deliberates and clear_lead(able, count.ballot):
        ended = End(Rule.CLEAR_LEAD, count)
    else:
        machine = Deliberation if solver.deliberates else Choosing
        ended = await machine(question, count, model, sandbox, solver, progress).run()
    return _in_ranks(_verdict(ended, count, solver), ended.known)


def _verdict(ended: End, before: Count, solver: ResolvedSolver) -> Verdict:
    """`before`: the count that the selection began with."""
    ballot, standings = ended.count.ballot, ended.count.standings
    able = credible(standings, ballot)
    if ended.declined is not None or not able:
        return _abstained(ended.count, ended)
    if ended.rule in (Rule.NO_CHOICE, Rule.NO_ANSWER) and solver.deliberates and two_behaviours(ended.count):
        return _abstained(ended.count, ended)
    # A patch of the selection's own wins only where the model says so.
    sampled = [standing for standing in able if not ballot.candidates[standing.candidate].parents]
    first = next(iter(sampled), able[0])
    winner = first if ended.winner is None else next(s for s in able if s.candidate == ended.winner)
    sure = confidence(winner, ballot, solver.settings.confidence_shift)
    if 1.0 - sure > solver.settings.wrong_at_most:
        return _abstained(ended.count, ended, Abstention(cause=NoWinner.UNSURE, confidence=sure))
    asked = ended.rule not in (Rule.ONLY_CREDIBLE, Rule.TYPICAL, Rule.CLEAR_LEAD)
    other = overruled(winner, sampled)
    return Verdict(
        outcome=Outcome.SOLVED,
        winner=winner.candidate,
        standings=(winner, *(standing for standing in standings if standing is not winner)),
        choice=Choice(
            rule=ended.rule,
            front_runner=first.candidate,
            finalists=tuple(standing.candidate for standing in finalists_of(before, solver)) if asked else (),
            calls=ended.calls,
            passed=tuple(ended.passed.values()),
            compared=ended.compared,
            error=ended.error,
            overruled=None if other is None else other.candidate,
        ),
        selection_tests=tuple(ended.tests.values()),
        struck=ended.struck,
        ballot=ballot,
        own_tests=ended.count.own_tests,
        numbered_by_rank=True,
        confidence=sure,
    )


_NAMED = re.compile(r"\bcandidates?\s+#?\d+(?:\s*(?:,|/|and|or|,\s*and|,\s*or)\s*#?\d+)*\b", re.IGNORECASE)


def _in_ranks(verdict: Verdict, known: Sequence[int]) -> Verdict:
    """With the numbers by which people know the candidates where the model's words name them by its own."""
    ranks = {str(number): str(verdict.number(candidate)) for number, candidate in enumerate(known, 1)}

    def renumbered(words: str) -> str:
        def in_ranks(named: re.Match[str]) -> str:
            return re.sub(r"\d+", lambda number: ranks.get(number[0], number[0]), named[0])

        return _NAMED.sub(in_ranks, words)

    why = verdict.abstention
    return verdict.model_copy(
        update={
            "struck": tuple(one.model_copy(update={"reason": renumbered(one.reason)}) for one in verdict.struck),
            "abstention": why and why.model_copy(update={"said": renumbered(why.said)}),
        }
    )


def _abstained(count: Count, ended: End, unsure: Abstention | None = None) -> Verdict:
    ballot, standings = count.ballot, count.standings
    why = unsure or abstention(standings, ballot)
    if ended.declined is not None:
        why = Abstention(cause=NoWinner.DECLINED, said=ended.declined, calls=ended.calls)
    if why is None:  # candidates are credible, and none was chosen
        why = Abstention(cause=NoWinner.UNDECIDED, calls=ended.calls)
    return Verdict(
        outcome=Outcome.ABSTAINED,
        winner=None,
        standings=standings,
        abstention=why,
        selection_tests=tuple(ended.tests.values()),
        struck=ended.struck,
        ballot=ballot,
        own_tests=count.own_tests,
        parting=two_behaviours(count),
        numbered_by_rank=True,
    )
