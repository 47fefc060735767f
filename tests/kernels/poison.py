"""Outputs that are full of NaN before a kernel writes them, so that gaps show."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch


@contextmanager
def poisoned() -> Iterator[None]:
    """Inside, `torch.empty` and `torch.empty_like` give tensors of NaN."""
    empty, empty_like = torch.empty, torch.empty_like

    def fill(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    def poison(*args: Any, **kwargs: Any) -> torch.Tensor:
        return fill(empty(*args, **kwargs))

    def poison_like(*args: Any, **kwargs: Any) -> torch.Tensor:
        return fill(empty_like(*args, **kwargs))

    with mock.patch.object(torch, "empty", poison), mock.patch.object(torch, "empty_like", poison_like):
        assert poison(1).isnan().all()
        yield
