"""The shape of a model's attention, on which the plan of a step depends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heads:
    """Heads of one process's share of a model."""

    query: int
    kv: int
    dim: int
    item_bytes: int  # of one number of the cache

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.query // self.kv
