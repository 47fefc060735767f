"""What a scheduler keeps to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes that the scheduler keeps to."""

    block_size: int = 16  # tokens
    max_batch: int = 256  # sequences
    prefill_chunk: int = 512  # prompt tokens a step
    lease_seconds: float = 120.0
    max_draft: int = 0  # tokens drafted per sequence and step; 0: no speculation
    max_waiting: int = 20_000  # sequences that wait; the core refuses more
    states: int = 0  # slots of recurrent states, where the model has some; 0: two for each sequence of `max_batch`
    # Blocks of layers that see a window alone, for each window that the model has; (): what `max_batch` sequences need.
    windows: tuple[int, ...] = ()
