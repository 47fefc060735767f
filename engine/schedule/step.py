"""The nouns of one step: which sequences compute how many tokens."""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import NamedTuple

from engine.schedule.sequence import Sequence


class Chunk(NamedTuple):
    """One sequence's part of a step: its next `new` tokens, at least one, and tokens drafted behind its last one."""

    sequence: Sequence
    new: int
    draft: Many[int] = ()

    @property
    def samples(self) -> bool:
        """Whether the step computes the sequence's last token, so that a new one can be sampled."""
        return self.sequence.computed + self.new == len(self.sequence.tokens)

    @property
    def scored(self) -> int:
        """How many of its first rows give the log-probability of the prompt's next token, where that is wanted."""
        sequence = self.sequence
        return min(self.new, sequence.prompt_length - 1 - sequence.computed) if sequence.scoring else 0


@dataclass(frozen=True)
class Step:
    """What to compute next."""

    chunks: list[Chunk]  # in tree order
    shared: list[int]  # leading blocks that each chunk's table has in common with the one before; 0 for the first
    ready: list[Sequence]  # sequences that only need to be sampled: the logits of their prompt are known already
