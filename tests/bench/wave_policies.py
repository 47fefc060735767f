"""What can be done after a first wave of attempts, and how a small model may go before a strong one.

Every policy asks a `Sampler` for replies to a conversation (`sample`) and goes by the visible examples alone
(`Attempt.passes`, `Attempt.score`). All start from one and the same first wave, and every round asks for as many
replies as attempts failed in the round before: so policies differ in what they ask, and hardly in what they pay.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bot.llm.conversation import derived_seed
from tests.bench.wave_record import Attempt, Messages, Sampler, Visible, corrected, first, warned

FRESH, CORRECTED, WAVES, PARTICLES = "independent replies", "independent trajectories", "second wave", "particles"
POLICIES = (FRESH, CORRECTED, WAVES, PARTICLES)
_JUDGED = "Is this function right for every input that the description allows? Reply with yes or no.\n"


@dataclass(frozen=True)
class Particle:
    """A conversation and its last reply."""

    prefix: Messages
    attempt: Attempt


@dataclass(frozen=True)
class Tried:
    """What a policy drew after the first wave, by round."""

    rounds: tuple[tuple[Attempt, ...], ...]


async def first_wave(sampler: Sampler, visible: Visible, size: int) -> tuple[Particle, ...]:
    """Independent replies to the question."""
    return await _drawn(sampler, visible, [first(visible)] * size, Counter())


async def _drawn(
    sampler: Sampler, visible: Visible, prefixes: Sequence[Messages], asked: Counter[Messages]
) -> tuple[Particle, ...]:
    """A reply to each. `asked`: how many replies to each conversation there were before; it is counted on."""
    calls = []
    for prefix in prefixes:
        calls.append(sampler.sample(visible, prefix, asked[prefix]))
        asked[prefix] += 1
    found = await asyncio.gather(*calls)
    return tuple(Particle(prefix, attempt) for prefix, attempt in zip(prefixes, found, strict=True))


async def go_on(policy: str, sampler: Sampler, visible: Visible, wave: Sequence[Particle], rounds: int) -> Tried:
    """The rounds after the first wave, by one policy. An attempt that passes the visible examples is done."""
    rng = np.random.default_rng(derived_seed(0, visible.task.id))
    asked = Counter(particle.prefix for particle in wave)
    failed = [particle for particle in wave if not particle.attempt.passes]
    known, done = list(failed), len(wave)  # all failures, and all attempts
    drawn = []
    for _ in range(rounds):
        if not failed:
            break
        if policy == FRESH:
            prefixes = [first(visible)] * len(failed)
        elif policy == WAVES:
            prefixes = [warned(visible, [particle.attempt for particle in known], done)] * len(failed)
        else:
            parents = resampled(failed, rng) if policy == PARTICLES else failed
            prefixes = [corrected(parent.prefix, visible, parent.attempt) for parent in parents]
        found = await _drawn(sampler, visible, prefixes, asked)
        drawn.append(tuple(particle.attempt for particle in found))
        failed = [particle for particle in found if not particle.attempt.passes]
        known, done = known + failed, done + len(found)
    return Tried(tuple(drawn))


def resampled(particles: Sequence[Particle], rng: np.random.Generator) -> list[Particle]:
    """As many, drawn with weights that grow with the share of examples passed; systematic, so that little is chance."""
    weights = np.array([particle.attempt.score + 1 / len(particle.attempt.outcomes) for particle in particles])
    places = (np.arange(len(particles)) + rng.random()) / len(particles)
    chosen = np.searchsorted(np.cumsum(weights / weights.sum()), places)
    return [particles[min(int(i), len(particles) - 1)] for i in chosen]


@dataclass(frozen=True)
class Draws:
    """What the cascade's policies are made of, for one task."""

    small: tuple[Attempt, ...]  # the small model's first wave
    strong: tuple[Attempt, ...]  # the strong model's replies, up to the first that passes
    repair: Attempt | None  # the strong model's correction of the small one's best attempt; None: one passes
    verdict: Attempt | None  # what the strong model says of the small one's first that passes; None: none does


async def cascade_draws(small: Sequence[Particle], strong: Sampler, visible: Visible, most: int) -> Draws:
    """All that any of the cascade's policies may ask the strong model for."""
    passing = next((particle for particle in small if particle.attempt.passes), None)
    replies: list[Attempt] = []
    while len(replies) < most and not any(attempt.passes for attempt in replies):
        replies.append(await strong.sample(visible, first(visible), len(replies)))
    repair = verdict = None
    if passing is None:
        best = max(small, key=lambda particle: particle.attempt.score)
        repair = await strong.sample(visible, corrected(best.prefix, visible, best.attempt), 0)
    else:
        prefix = corrected(passing.prefix, visible, passing.attempt)[:-1]
        verdict = await strong.word(visible, (*prefix, ("user", _JUDGED)))
    return Draws(tuple(particle.attempt for particle in small), tuple(replies), repair, verdict)


@dataclass(frozen=True)
class Spent:
    """What a policy came to on one task. Tokens are generated ones."""

    solves: bool
    small: int = 0
    strong: int = 0


def alone(attempts: Sequence[Attempt]) -> Spent:
    """Replies up to the first that passes; else the best of them. Tokens are the strong model's."""
    used: list[Attempt] = []
    for attempt in attempts:
        used.append(attempt)
        if attempt.passes:
            break
    chosen = max(used, key=lambda attempt: attempt.score)  # the first of the best
    return Spent(chosen.solves, strong=sum(attempt.tokens for attempt in used))


def small_alone(draws: Draws) -> Spent:
    spent = alone(draws.small)
    return Spent(spent.solves, small=spent.strong)


def cascade(draws: Draws, *, judges: bool = False, repairs: bool = False) -> Spent:
    """The small model's answer where it passes the examples (and the strong one says yes); else the strong one's."""
    before = small_alone(draws)
    passed = any(attempt.passes for attempt in draws.small)
    spoken = 0
    if passed:
        assert draws.verdict is not None
        spoken = draws.verdict.tokens if judges else 0
        if not judges or draws.verdict.text.strip().lower().startswith("yes"):
            return replace(before, strong=spoken)
    elif repairs:
        assert draws.repair is not None
        spoken = draws.repair.tokens
        if draws.repair.passes:
            return Spent(draws.repair.solves, before.small, spoken)
    taken = alone(draws.strong)
    return Spent(taken.solves, before.small, spoken + taken.strong)
