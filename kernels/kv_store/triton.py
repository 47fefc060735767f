"""The cache's update in one launch, by Triton: `kernels.rope_store` without the rotation."""

from torch import Tensor

from kernels.kv_store.reference import UNSCALED, Scales
from kernels.rope_store.triton import launch


def store(
    key: Tensor,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor | None,
    slots: Tensor,
    scales: Scales = UNSCALED,
) -> None:
    """See `reference.store`. The device is a GPU (or Triton's interpreter).

    Raises:
        ValueError: keys and caches differ in shape or layout.
    """
    launch(key, value, key_cache, value_cache, slots, scales=scales)
