"""What a sequence said so far, counted as it grows: penalties need the counts at each step."""

from collections.abc import Iterable
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]


class Said:
    """Counts of the tokens that one sequence sampled. A token is counted in constant time, however long the text is."""

    def __init__(self, prompt: frozenset[int]) -> None:
        """`prompt`: the different tokens of the prompt."""
        self._prompt = prompt
        self._places: dict[int, int] = {}
        self._tokens = np.zeros(16, dtype=np.int64)
        self._counts = np.zeros(16, dtype=np.float32)
        self._fresh = np.zeros(16, dtype=bool)
        self.total = 0

    def add(self, tokens: Iterable[int]) -> None:
        """Count more tokens."""
        for token in tokens:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._tokens):
                self._grow()
            self._tokens[place] = token
            self._counts[place] += 1
            self._fresh[place] = token not in self._prompt
            self.total += 1

    def with_more(self, tokens: Iterable[int]) -> "Said":
        """A copy that has counted `tokens`, too."""
        copy = Said(self._prompt)
        copy._places, copy.total = dict(self._places), self.total
        copy._tokens, copy._counts, copy._fresh = self._tokens.copy(), self._counts.copy(), self._fresh.copy()
        copy.add(tokens)
        return copy

    @property
    def tokens(self) -> Numbers:
        """The different tokens, int64."""
        return self._tokens[: len(self._places)]

    @property
    def counts(self) -> Numbers:
        """How often each of `tokens` was said, float32."""
        return self._counts[: len(self._places)]

    @property
    def fresh(self) -> Numbers:
        """Those of `tokens` that are not in the prompt."""
        found: Numbers = self.tokens[self._fresh[: len(self._places)]]
        return found

    def _grow(self) -> None:
        for name in ("_tokens", "_counts", "_fresh"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate((old, np.zeros_like(old))))
