"""The shape of a model's attention, on which the plan of a step depends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heads:
    """Heads of one process's share of a model."""

    query: int
    kv: int
    dim: int
    item_bytes: int  # of one number of the cache
    shared: int = 0  # numbers of a key, the first, that are its value, too (latent attention); 0: values are apart

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.query // self.kv

    @property
    def value(self) -> int:
        """Numbers of a value, and of the output."""
        return self.shared or self.dim

    @property
    def token(self) -> int:
        """Numbers that are read for a token and a key head."""
        return self.dim if self.shared else 2 * self.dim
