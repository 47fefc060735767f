"""Differential testing: candidates that no test tells apart, run on calls that no test makes (McKeeman, 1998).

The calls are those of the tests that the candidates pass, and variants of them. Where the candidates answer one
differently, people and models are shown it, and of patches that pass the same tests that comes first with whose answers
most samples agree. A call says nothing where the same candidate answers it differently twice. Python alone.
"""

import asyncio
from collections import Counter

from bot.lifecycle import RunState
from bot.records import Ballot, Differential, Execution, Test
from bot.solver.ballot import Count, count, credible
from bot.solver.harness import Harness
from bot.solver.stages.choice_machine import run_test
from bot.solver.stages.probing import noted_calls, probing
from bot.solver.variants import variants

_BEHAVIOURS = 2  # the best in the count
_MEMBERS = 8  # of each, those with most samples
_TESTS = 3  # whose calls are made
_VARIANTS = 100  # of each test's calls
_SLOWEST = 20.0  # seconds that a test may take: it runs once more for each member
_KEPT = 40  # calls that are answered differently, the shortest


async def differentials(counted: Count, harness: Harness) -> tuple[Differential, ...]:
    """Of the best behaviours that several credible candidates have. Raises `SandboxUnavailable`."""
    groups: dict[tuple[bool | None, ...], list[int]] = {}
    for standing in credible(counted.standings, counted.ballot):
        groups.setdefault(counted.ballot.cells[standing.candidate], []).append(standing.candidate)
    asked = [members for members in list(groups.values())[:_BEHAVIOURS] if len(members) > 1]
    if asked:
        harness.progress.update(RunState.SELECTION, 0, 0, "patches that pass the same tests, on other calls")
    found = await asyncio.gather(*(_differential(members, counted.ballot, harness) for members in asked))
    return tuple(one for one in found if one is not None)


def with_differentials(counted: Count, found: tuple[Differential, ...]) -> Count:
    """The count that has them in its ballot, made again. Pure."""
    if not found:
        return counted
    ballot = counted.ballot.model_copy(update={"differentials": found})
    return Count(ballot, count(ballot, counted.own_tests), counted.own_tests)


async def _differential(members: list[int], ballot: Ballot, harness: Harness) -> Differential | None:
    """None where no call could be made."""
    most = sorted(members, key=lambda c: (-ballot.candidates[c].samples, members.index(c)))[:_MEMBERS]
    members = [c for c in members if c in most]
    tests = [t for t in ballot.voting if ballot.cells[members[0]][t] and probing(ballot.tests[t]) is not None]
    tests = sorted(tests, key=lambda t: (-len(ballot.authors[t]) if ballot.authors else 0, t))[:_TESTS]
    answers: dict[str, tuple[str, ...]] = {}
    for found in await asyncio.gather(*(_answers(members, ballot.tests[t], ballot, harness) for t in tests)):
        answers = found | answers
    if not answers:
        return None
    apart = sorted((call for call, row in answers.items() if len(set(row)) > 1), key=lambda call: (len(call), call))
    columns = [answers[call] for call in apart[:_KEPT]]
    return Differential(
        candidates=tuple(members),
        asked=len(answers),
        apart=len(apart),
        calls=tuple(apart[:_KEPT]),
        answers=tuple(tuple(column[i] for column in columns) for i in range(len(members))),
    )


async def _answers(members: list[int], test: Test, ballot: Ballot, harness: Harness) -> dict[str, tuple[str, ...]]:
    """What each of them answers to the calls that all of them answer, and the first of them always alike."""

    async def ran(candidate: int, asked: tuple[str, ...]) -> Execution:
        probe = probing(test, asked)
        assert probe is not None
        changes = ballot.candidates[candidate].patch.changes
        return await run_test(harness.sandbox, changes, probe, harness.settings.test_timeout)

    async def noted(candidate: int, asked: tuple[str, ...]) -> dict[str, str]:
        found = noted_calls((await ran(candidate, asked)).output)
        return {call: _kind(answer) for call, answer in found.items()}

    made = await ran(members[0], ())
    if made.seconds > _SLOWEST:
        return {}
    asked = variants(noted_calls(made.output), _VARIANTS)
    again, *found = await asyncio.gather(*(noted(c, asked) for c in (members[0], *members)))
    times = Counter(call for one in found for call in one)
    return {
        call: tuple(one[call] for one in found)
        for call, answer in again.items()
        if times[call] == len(members) and found[0][call] == answer
    }


def _kind(answer: str) -> str:
    """An exception without its message, which each patch words in its own way."""
    return answer.partition(":")[0] if answer.startswith("raises ") else answer
