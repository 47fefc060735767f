"""Where texts' states are, for kernels that advance them in their pool."""

from typing import NamedTuple

from torch import Tensor


class Places(NamedTuple):
    """A pool and which of it are meant."""

    states: Tensor  # [slots, ...] contiguous
    slots: Tensor  # [texts] int64, no two alike; below 0: nobody's, whose state is zeros and is not written
    kept: bool  # the states go on; else they stay as they are
