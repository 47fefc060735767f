"""A scheduler whose model is the texts themselves: what is computed can be compared with what should be."""

import random
from collections.abc import Sequence as Many

from engine.cache.tails import CopySlots
from engine.schedule.limits import Limits
from engine.schedule.resumption import Bounds
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import Request, SamplingParams, Sequence
from engine.schedule.step import Chunk, Step
from engine.text.output import ByteDecoder, OutputText


class Machine:
    """Samples at random; its drafts are sometimes right."""

    MOST_DRAFTED = 3
    STOPS = 0.05  # of the tokens

    def __init__(self, blocks: int, limits: Limits, copy: CopySlots, bounds: Bounds, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.computed = 0
        self.arrivals = 0
        self.known: set[tuple[int, ...]] = set()  # prompts whose logits are
        self.scheduler = Scheduler(
            blocks,
            limits,
            copy,
            lambda sequence: tuple(sequence.request.prompt) in self.known,
            clock=lambda: self.now,
            drafter=self.draft,
            bounds=bounds,
        )

    def compute(self, chunks: Many[Chunk]) -> None:
        """What the model does in a step, and checks."""
        raise NotImplementedError

    def ready(self, sequence: Sequence) -> None:
        """Check a sequence that samples without being computed."""

    def draft(self, decoding: list[Sequence], budget: int) -> dict[Sequence, list[int]]:
        most = self.MOST_DRAFTED
        return {sequence: [self.rng.randint(0, 9) for _ in range(self.rng.randint(0, most))] for sequence in decoding}

    def submit(self, prompt: list[int], most: int, n: int = 1, client: str = "a") -> Request:
        request = Request(prompt, SamplingParams(max_tokens=most), n=n, client=client)
        for index in range(n):
            text = OutputText(ByteDecoder([]))
            request.sequences.append(Sequence(request, index, list(prompt), self.arrivals, text))
            self.arrivals += 1
        self.scheduler.submit(request)
        return request

    def step(self) -> Step:
        """Compute a step as the model does, and sample."""
        self.now += 0.1
        scheduler = self.scheduler
        step = scheduler.schedule()
        scheduler.check_integrity()
        self.compute(step.chunks)
        self.computed += sum(chunk.new for chunk in step.chunks)
        sampled = [chunk for chunk in step.chunks if chunk.samples]
        for chunk in sampled:
            if not chunk.sequence.generated:
                self.known.add(tuple(chunk.sequence.request.prompt))
        scheduler.advance(step.chunks)
        scheduler.check_integrity()
        for sequence, _, draft in sampled:
            self.sample(sequence, list(draft))
        for sequence in step.ready:
            self.ready(sequence)
            self.sample(sequence, [])
        scheduler.check_integrity()
        return step

    def sample(self, sequence: Sequence, draft: list[int]) -> None:
        for guess in [*draft, -1]:
            token = guess if guess >= 0 and self.rng.random() < 0.5 else self.rng.randint(0, 9)
            sequence.tokens.append(token)
            if sequence.remaining <= 0 or self.rng.random() < self.STOPS:
                self.scheduler.finish(sequence, "length" if sequence.remaining <= 0 else "stop")
                return
            if token != guess:
                return
            self.scheduler.accept(sequence)

    def finish_all(self) -> None:
        for _ in range(20_000):
            if not self.scheduler.waiting and not len(self.scheduler.running):
                return
            step = self.step()
            assert step.chunks or step.ready, "something waits or runs, but nothing is computed"
        raise AssertionError("it never ends")
