"""Speculation: tokens guessed from what a prompt and its siblings' outputs said before, checked by the model many at
once.

A step computes a sequence's drafted tokens as rows behind its last one, and samples every row just as it would without
drafts: with random numbers that depend on (seed, position) alone. Drafted tokens are kept as long as they equal the
sampled ones. The text is therefore the same token for token as without speculation, at any temperature and with any
filter, except where logits round differently because the batch has another shape; and a draft is accepted with the
probability that the model gives it, as in speculative sampling (Leviathan et al., arXiv 2211.17192) with a
deterministic draft.

Each step decides anew whether drafts pay. The value of a draft is its probability of being accepted, learned from
earlier guesses of its kind; the cost of a row comes from the measured times of steps. The drafts that give the most
tokens per second are computed; in a large batch there are none.
"""

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from engine.schedule.sequence import Sequence as Generated
from engine.schedule.step import Step
from engine.speculate.suffix_tree import Guess, Place, SuffixTree

MOST_LIVE = 64  # decoding sequences; with more, even guessing costs more than it gains
FEED = 2048  # tokens added to trees per step: about 5 ms
TOKENS = 1 << 20  # in all trees together, at about 130 bytes each
LEAST_CHANCE = 0.02  # of a draft to come true
MARGIN = 1.05  # drafts must promise this much more than none, because guessing takes time too
PATIENCE = 16  # steps without a worthwhile draft before guessing rests
LONGEST_REST = 128  # steps


class Trust:
    """How often guesses of one tree are right, by the length of their context and their share of its continuations.
    Starts from what is known of all trees.
    """

    CONTEXTS = (2, 4, 8, 16)  # tokens
    SHARES = (0.45, 0.55, 0.8, 0.93)
    PRIOR = 4.0  # observations that the prior is worth
    MEMORY = 200.0  # observations

    def __init__(self, general: "Trust | None" = None) -> None:
        """
        Args:
            general: learns what is learned here, too, and is used while little is known here.
        """
        self._general = general
        cells = (len(self.CONTEXTS) + 1) * (len(self.SHARES) + 1)
        self._hits = [0.0] * cells
        self._tries = [0.0] * cells

    def cell(self, guess: Guess) -> int:
        """The cell in which a guess is counted."""
        share = guess.times / (guess.total + 1)  # a half where it was seen once
        return bisect_right(self.CONTEXTS, guess.context) * (len(self.SHARES) + 1) + bisect_right(self.SHARES, share)

    def chance(self, guess: Guess, cell: int) -> float:
        """Probability that a guess is right, given that those before it are."""
        if self._general is not None:
            prior = self._general.chance(guess, cell)
        else:
            prior = guess.times / (guess.total + 0.5) * guess.context / (guess.context + 0.5)
        return (self._hits[cell] + self.PRIOR * prior) / (self._tries[cell] + self.PRIOR)

    def learn(self, cell: int, hit: bool) -> None:
        """Record whether a guess was right."""
        if self._tries[cell] >= self.MEMORY:
            self._tries[cell] *= 0.5
            self._hits[cell] *= 0.5
        self._tries[cell] += 1
        self._hits[cell] += hit
        if self._general is not None:
            self._general.learn(cell, hit)


class StepTimes:
    """Times of decoding steps: without drafts by the number of rows, with drafts as a line over it. The line is fitted
    to the latest steps with drafts by least squares, starting from steps without.
    """

    WEIGHT = 0.2  # of the newest step without drafts
    MEMORY = 0.97  # what a step with drafts weighs when the next comes
    PRIOR = 1.0  # steps that each end of the first line is worth

    def __init__(self, slope: float) -> None:
        """
        Args:
            slope: cost of a row before any measurement, relative to the fixed cost of a step.
        """
        self.slope = slope
        self._plain: dict[int, float] = {}  # seconds by bucket of rows
        self._sums = np.zeros(5)  # of steps with drafts: weight, rows, rows squared, seconds, rows times seconds

    def note(self, rows: int, drafted: bool, seconds: float) -> None:
        """Record a step. A pause of the machine counts as at most twice a step."""
        if drafted:
            weight, in_rows, _, in_seconds, _ = self._sums
            if weight:
                usual = in_seconds * (1 + self.slope * rows) / (weight + self.slope * in_rows)
                seconds = min(seconds, 2 * usual)
            self._sums = self._sums * self.MEMORY + (1.0, rows, rows * rows, seconds, rows * seconds)
        else:
            bucket = self._bucket(rows)
            before = self._plain.get(bucket, seconds)
            self._plain[bucket] = before + self.WEIGHT * (min(seconds, 2 * before) - before)

    def plain(self, live: int) -> float:
        """Seconds of a step of `live` rows without drafts. More than the line gives for as many rows is out of date and
        reduced, to half at most: the line may be wrong at its start.
        """
        first, more = self.line(live)
        measured = self._measured(live)
        return max(measured / 2, min(measured, first + more * live))

    def line(self, live: int) -> tuple[float, float]:
        """Seconds of a step of `live` sequences with drafts: its fixed part, and what each row adds."""
        sums = self._sums.copy()
        base = self._measured(live) / (1 + self.slope * live)
        for rows in (live + 1, live + 16):
            seconds = base * (1 + self.slope * rows)
            sums += self.PRIOR * np.array((1.0, rows, rows * rows, seconds, rows * seconds))
        weight, in_rows, squares, in_seconds, products = sums.tolist()
        more = max(0.0, (weight * products - in_rows * in_seconds) / (weight * squares - in_rows * in_rows))
        return (in_seconds - more * in_rows) / weight, more

    def forget_drafted(self) -> None:
        """Measure steps with drafts anew: the old times may no longer be valid."""
        self._sums[:] = 0

    def _measured(self, live: int) -> float:
        """By the nearest bucket, else by steps with drafts, else in units of a step without rows."""
        bucket = self._bucket(live)
        if self._plain:
            nearest = min(self._plain, key=lambda known: abs(known - bucket))
            rows, seconds = float(nearest), self._plain[nearest]
            if nearest == bucket:
                return seconds
        elif self._sums[0]:
            rows, seconds = self._sums[1] / self._sums[0], self._sums[3] / self._sums[0]
        else:
            rows, seconds = 0.0, 1.0
        return float(seconds * (1 + self.slope * live) / (1 + self.slope * rows))

    @staticmethod
    def _bucket(rows: int) -> int:
        shift = max(0, rows.bit_length() - 3)
        return rows >> shift << shift


@dataclass(eq=False)
class Grove:
    """The tree of prompts that share a long prefix, and how often its guesses are right."""

    trust: Trust
    tree: SuffixTree = field(default_factory=SuffixTree)
    used: float = 0.0  # when
    prefixes: list[int] = field(default_factory=list)  # keys of the speculator's places
    dropped: bool = False


@dataclass(eq=False)
class Reader:
    """One sequence in its grove's tree."""

    grove: Grove
    place: Place
    read: int  # leading tokens of the sequence that the tree has
    guessed: list[tuple[int, int]] = field(default_factory=list)  # the guesses behind them: tokens and cells


class Speculator:
    """Drafts for the scheduler. Not thread-safe: only the engine's thread calls it."""

    def __init__(
        self,
        max_draft: int,
        block_size: int,
        slope: float,
        keep: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            max_draft: tokens per sequence and step.
            block_size: of the cache; prompts share trees by whole blocks.
            slope: see `StepTimes`.
            keep: seconds that a tree is kept after its last use.
            clock: seconds.
        """
        self.max_draft = max_draft
        self.times = StepTimes(slope)
        self._block_size = block_size
        self._keep = keep
        self._clock = clock
        self._groves: OrderedDict[Grove, None] = OrderedDict()  # least recently used first
        self._places: dict[int, tuple[Grove, Place]] = {}  # by hash of a prompt's prefix (`Request.chain`)
        self._readers: WeakKeyDictionary[Generated, Reader] = WeakKeyDictionary()
        self._trust = Trust()
        self._misses = 0  # steps in a row without a worthwhile draft
        self._rest = 0  # steps left to skip
        self._resting = (0, 0)  # when the rest began: sequences, and the latest arrival among them
        self.tokens = 0  # in all trees

    def draft(self, decoding: Sequence[Generated], budget: int) -> dict[Generated, list[int]]:
        """Tokens worth computing behind the last one of sequences that decode.

        Args:
            decoding: sequences of which only the last token is not yet computed.
            budget: drafted tokens in all.
        """
        live = len(decoding)
        if not 0 < live <= MOST_LIVE or budget < 1:
            return {}
        if self._rest and 2 * live > self._resting[0] and max(s.arrival for s in decoding) <= self._resting[1]:
            self._rest -= 1
            return {}
        self._rest = 0
        self._drop_old()
        # A guess less likely than this gains less than its row costs, so it need not be followed.
        floor = max(LEAST_CHANCE, live * self.times.line(live)[1] / self.times.plain(live))
        feed = FEED
        guesses: dict[Generated, list[tuple[int, float]]] = {}
        for sequence in decoding:
            reader = self._reader(sequence)
            feed -= self._catch_up(sequence, reader, feed)
            if reader.read == len(sequence.tokens) and not reader.grove.dropped:
                guesses[sequence] = self._guess(reader, min(self.max_draft, sequence.remaining - 1), floor)
        drafts = self._choose(guesses, live, budget)
        self._note_success(bool(drafts), decoding)
        return drafts

    def drafts(self, live: int) -> bool:
        """Whether tokens may be guessed where that many sequences decode."""
        return self.max_draft > 0 and live <= MOST_LIVE

    def note(self, step: Step, seconds: float) -> None:
        """Record how long a step took."""
        chunks = step.chunks
        if step.ready or not chunks or any(new > 1 or not sequence.generated for sequence, new, _ in chunks):
            return  # more was computed than decoding
        rows = sum(1 + len(chunk.draft) for chunk in chunks)
        self.times.note(rows, rows > len(chunks), seconds)

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        assert sum(len(grove.prefixes) for grove in self._groves) == len(self._places)
        assert sum(grove.tree.tokens for grove in self._groves) == self.tokens
        for grove in self._groves:
            assert not grove.dropped
            assert all(self._places[prefix][0] is grove for prefix in grove.prefixes)

    # -- what drafts are worth ------------------------------------------------------------------------------------

    def _guess(self, reader: Reader, most: int, floor: float) -> list[tuple[int, float]]:
        """Guessed tokens, and for each the probability that all up to it are right. At least one is recorded, to learn
        from it.
        """
        found: list[tuple[int, float]] = []
        reader.guessed = []
        trust, chance = reader.grove.trust, 1.0
        for guess in reader.grove.tree.guesses(reader.place):
            cell = trust.cell(guess)
            chance *= trust.chance(guess, cell)
            reader.guessed.append((guess.token, cell))
            if len(found) >= most or chance < floor:
                break
            found.append((guess.token, chance))
        return found

    def _choose(
        self, guesses: dict[Generated, list[tuple[int, float]]], live: int, budget: int
    ) -> dict[Generated, list[int]]:
        """The guesses that give the most tokens a second. Each is likelier than those behind it, so that the likeliest
        of all are always the first of their sequences.
        """
        chances = sorted((chance for found in guesses.values() for _, chance in found), reverse=True)
        first, more = self.times.line(live)
        plain = self.times.plain(live)
        best = MARGIN * live / plain
        expected, threshold = float(live), None
        for count, chance in enumerate(chances[:budget], 1):
            expected += chance
            rate = expected / max(plain, first + more * (live + count))
            if rate > best:
                best, threshold = rate, chance
        if threshold is None:
            return {}
        drafts = {}
        for sequence, found in guesses.items():
            tokens = [token for token, chance in found if chance >= threshold][:budget]
            budget -= len(tokens)
            if tokens:
                drafts[sequence] = tokens
        return drafts

    def _note_success(self, found: bool, decoding: Sequence[Generated]) -> None:
        """Pause for a while, longer each time, where guessing does not pay; then start over as if nothing were
        known.
        """
        if found:
            self._misses = 0
            return
        self._misses += 1
        if self._misses % PATIENCE == 0:
            self._rest = min(LONGEST_REST, self._misses)
            self._resting = len(decoding), max(sequence.arrival for sequence in decoding)
            self.times.forget_drafted()

    # -- trees ----------------------------------------------------------------------------------------------------

    def _reader(self, sequence: Generated) -> Reader:
        """The sequence's reader; a new one begins behind the longest prefix of the prompt that a tree has, if that is
        at least half of the prompt, else in a new tree.
        """
        reader = self._readers.get(sequence)
        if reader is None:
            reader = self._readers[sequence] = self._join(sequence) or Reader(Grove(Trust(self._trust)), Place(), 0)
            self._groves[reader.grove] = None
        if not reader.grove.dropped:
            reader.grove.used = self._clock()
            self._groves.move_to_end(reader.grove)
        return reader

    def _join(self, sequence: Generated) -> Reader | None:
        size, chain = self._block_size, sequence.request.chain(self._block_size)
        for index in range(len(chain) - 1, (len(chain) - 1) // 2 - 1, -1):
            if chain[index] in self._places:
                grove, place = self._places[chain[index]]
                return Reader(grove, place.fork(), min((index + 1) * size, sequence.prompt_length))
        return None

    def _drop_old(self) -> None:
        """Forget trees that have not been used for long, and the least recently used if all together are too large."""
        limit = self._clock() - self._keep
        while self._groves:
            grove = next(iter(self._groves))
            if grove.used >= limit and (self.tokens <= TOKENS or len(self._groves) == 1):
                return
            del self._groves[grove]
            for prefix in grove.prefixes:
                del self._places[prefix]
            self.tokens -= grove.tree.tokens
            grove.dropped = True  # sequences that still read it get no more drafts
            grove.tree = SuffixTree(limit=0)

    def _catch_up(self, sequence: Generated, reader: Reader, most: int) -> int:
        """Add up to about `most` of the sequence's tokens that its tree has not seen; return how many were read."""
        grove, tokens, begin = reader.grove, sequence.tokens, reader.read
        if grove.dropped:
            return 0
        before = grove.tree.tokens
        for (token, cell), came in zip(reader.guessed, tokens[begin:], strict=False):
            grove.trust.learn(cell, token == came)
            if token != came:
                break
        reader.guessed = []
        size, length = self._block_size, sequence.prompt_length
        chain = sequence.request.chain(size)
        while reader.read < length and reader.read - begin < most:
            index = reader.read // size
            end = min((index + 1) * size, length)
            prefix = chain[index] if (index + 1) * size <= length else chain[-1]
            known = self._places.get(prefix)
            if known is not None and known[0] is grove:  # a sibling has added tokens since
                reader.place = known[1].fork()
            else:
                grove.tree.extend(reader.place, tokens[reader.read : end])
                self._note_place(prefix, reader)
            reader.read = end
            if end == length:
                self._note_place(chain[-1], reader)
        if reader.read >= length:
            end = min(len(tokens), max(reader.read, begin + most))
            grove.tree.extend(reader.place, tokens[reader.read : end])
            reader.read = end
        self.tokens += grove.tree.tokens - before
        return reader.read - begin

    def _note_place(self, prefix: int, reader: Reader) -> None:
        if prefix not in self._places:
            self._places[prefix] = (reader.grove, reader.place.fork())
            reader.grove.prefixes.append(prefix)
