"""When no more attempts are made: the rules, and when each looks. Pure.

`tests/bench/bench_stopping.py` replays these very rules on recorded matrices; docs/science.md has what they keep and
cost. First finish search: arXiv 2505.18149; short-m@k: arXiv 2505.17813. Good and Turing's estimate (Good 1953): the
chance that the next draw is of a kind not seen yet is the share of the draws whose kind was seen once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from bot.records import Ballot, Standing, Stopped, StopRule
from bot.settings import SolverSettings
from bot.solver.ballot import count, credible
from bot.solver.confidence import confidence

SURE = 0.8  # of `posterior` where nobody names a probability: see docs/science.md
FIRST_WAVE = 8  # attempts of `posterior` before it looks; each later wave is as large as all before it
STEP = 4  # attempts between two looks of `first-finish`, `discovery` and `consensus`
LEAST = 12  # attempts before `discovery` asks how many patches are new: fewer often repeat themselves by chance


@dataclass(frozen=True)
class Seen:
    """What the count says of its first credible candidate; zeros where there is none."""

    votes: float = 0.0
    alike: float = 0.0  # samples that behave as it does
    sure: float = 0.0  # the probability that it is right
    apart: bool = False  # whether a test that votes for it fails on another one
    new: float = 1.0  # the chance that the next attempt's patch is none of those that are there


def seen(ballot: Ballot, shift: float = 0.0) -> Seen:
    """What the rules look at; `shift` as in `confidence`."""
    new = _new(ballot)
    first = next(iter(credible(count(ballot), ballot)), None)
    if first is None:
        return Seen(new=new)
    sure = confidence(first, ballot, shift)
    return Seen(first.votes or first.own_votes, first.cluster, sure, _told_apart(first, ballot), new)


def _new(ballot: Ballot) -> float:
    """By Good and Turing, of the patches that attempts of this run made; 1 where none did."""
    times = [len(candidate.trajectories) for candidate in ballot.candidates]
    return times.count(1) / sum(times) if any(times) else 1.0


def _told_apart(first: Standing, ballot: Ballot) -> bool:
    own, cells = ballot.own(first.candidate), ballot.cells
    voting = [t for t in ballot.voting if cells[first.candidate][t] is True and not own[t]]
    others = [i for i, candidate in enumerate(ballot.candidates) if candidate.samples and not candidate.disqualified]
    return any(cells[i][t] is False for i in others for t in voting)


@dataclass(frozen=True)
class Stopping:
    """A rule with its number."""

    rule: StopRule
    number: float = 0.0  # probability, attempts that behave alike or end first, new patches

    def wave(self, done: int, most: int) -> int:
        """How many attempts begin together where `done` of `most` have ended."""
        match self.rule:
            case StopRule.NONE | StopRule.SHORT_M:
                size = most
            case StopRule.POSTERIOR:
                size = max(done, FIRST_WAVE)
            case StopRule.FIRST_FINISH | StopRule.DISCOVERY | StopRule.CONSENSUS:
                size = STEP
            case _:
                assert_never(self.rule)
        return min(size, most - done)

    def looks(self, most: int) -> Iterator[int]:
        """After how many attempts the rule looks, the last time after `most`."""
        done = 0
        while done < most:
            done += self.wave(done, most)
            yield done

    def value(self, found: Seen) -> float:
        """What the rule looks at; 0 where no vote speaks for a candidate."""
        values = {
            StopRule.POSTERIOR: found.sure,
            StopRule.FIRST_FINISH: found.votes,
            StopRule.DISCOVERY: found.votes * found.apart,
            StopRule.CONSENSUS: found.alike,
        }
        return values.get(self.rule, 0.0) if found.votes else 0.0

    def enough(self, found: Seen, done: int, most: int) -> bool:
        """Whether the count of what has ended, `done` of `most` attempts, makes more attempts needless."""
        if self.rule is StopRule.DISCOVERY:
            return self.value(found) > 0 or (done >= LEAST and (most - done) * found.new < self.number)
        return 0 < self.value(found) >= self.number

    @property
    def ended_first(self) -> int | None:
        """After so many attempts with a patch all others are broken off; None: they are all waited for."""
        return int(self.number) if self.rule is StopRule.SHORT_M else None

    @property
    def words(self) -> str:
        """`consensus 6`, `first-finish`."""
        return f"{self.rule} {self.number:g}" if self.number else str(self.rule)

    def stopped(self, found: Seen, attempts: int, most: int) -> Stopped:
        """For the report."""
        return Stopped(rule=self.rule, attempts=attempts, of=most, value=self.value(found))


ALL = Stopping(StopRule.NONE)


def with_rule(settings: SolverSettings, rule: str) -> SolverSettings:
    """The settings with this rule; `posterior` asks for no more certainty than `SURE`."""
    sure = {"stop_at": min(settings.stop_at, SURE)} if rule == StopRule.POSTERIOR else {}
    return settings.model_copy(update={"stop": rule, **sure})


def stopping(settings: SolverSettings) -> Stopping:
    """The rule that the settings ask for."""
    rule = StopRule(settings.stop_rule())
    numbers: dict[StopRule, float] = {
        StopRule.POSTERIOR: settings.stop_at if settings.stop_at < 1 else SURE,
        StopRule.DISCOVERY: settings.stop_new,
        StopRule.CONSENSUS: settings.stop_alike,
        StopRule.SHORT_M: settings.stop_first,
    }
    return Stopping(rule, numbers.get(rule, 0.0))
