"""One rule for all engines: the prompt's time ends when all samples have their first token, decoding begins there."""

import time
from typing import NamedTuple


class Timing(NamedTuple):
    """One run. `prefill`: seconds until all samples had their first token. `tokens`: what came after, in `decode`
    seconds. `replies`: all tokens of each sample.
    """

    prefill: float
    tokens: int
    decode: float
    replies: list[list[int]]

    def rate(self, prompt: int) -> float:
        """Tokens a second: of decoding, or of a prompt of so many tokens where nothing came after it."""
        return self.tokens / self.decode if self.tokens else prompt / self.prefill


class Watch:
    """Runs from its making on."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._begin = time.perf_counter()
        self._first = 0.0
        self._had = 0
        self._last = 0.0

    def mark(self, had: int | None = None) -> None:
        """All samples have one token more; at the first mark they have `had` together, if not one each."""
        self._last = time.perf_counter()
        if not self._first:
            self._first = self._last
            self._had = self._samples if had is None else had

    def read(self, tokens: int, replies: list[list[int]]) -> Timing:
        """After `tokens` of all samples together, at the last mark."""
        return Timing(self._first - self._begin, tokens - self._had, self._last - self._first, replies)
