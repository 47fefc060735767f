"""What kernels that advance the texts' states in their pool have in common, each tried against its definition."""

import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import native
from kernels.places import Places
from tests.kernels.poison import poisoned
from tests.kernels.test_rms_norm import TOLERANCE

IN_C = pytest.mark.skipif(native.library() is None, reason="this processor lacks AVX-512 BF16, or no compiler")
Advance = Callable[[Any, Places], Tensor]


class PoolCase:
    """A token of each text. The texts' states are some of a pool that is full of NaN otherwise."""

    reference: ModuleType  # the definition, with `advance`
    exact = False  # the states are copied, not computed
    token: Any  # what `advance` takes first; its first tensor has the result's dtype

    def __init__(self, texts: int, state: Sequence[int], device: str, dtype: torch.dtype = torch.float32) -> None:
        self.pool = torch.full((texts + 3, *state), torch.nan, device=device, dtype=dtype)
        self.slots = torch.randperm(texts + 3, device=device)[:texts]
        self.pool[self.slots] = torch.randn(texts, *state, device=device).to(dtype)

    def run(self, advance: Advance, **changes: Any) -> tuple[Tensor, Tensor]:
        """The result, and the pool afterwards."""
        places = Places(self.pool.clone(), self.slots, True)._replace(**changes)
        with poisoned():
            found = advance(self.token, places)
        assert found.is_contiguous()
        assert found.dtype == self.token[0].dtype
        return found, places.states

    def agree(self, advance: Advance, **changes: Any) -> None:
        found, pool = self.run(advance, **changes)
        expected, expected_pool = self.run(self.reference.advance, **changes)
        assert expected.isfinite().all()
        torch.testing.assert_close(found, expected, **TOLERANCE[found.dtype])
        near = {"rtol": 0.0, "atol": 0.0} if self.exact else TOLERANCE[torch.float32]
        torch.testing.assert_close(pool, expected_pool, **near, equal_nan=True)

    def guesses_leave_the_states_as_they_are(self, advance: Advance) -> None:
        self.agree(advance, kept=False)
        found, pool = self.run(advance, kept=False)
        assert torch.equal(found, self.run(advance)[0])
        torch.testing.assert_close(pool, self.pool, rtol=0, atol=0, equal_nan=True)

    def nobodys_rows_begin_with_zeros_and_write_nothing(self, advance: Advance) -> None:
        self.slots[1] = -1
        self.agree(advance)
        _, pool = self.run(advance)
        changed = (pool != self.pool).flatten(1).any(dim=1) & ~pool.flatten(1).isnan().all(dim=1)
        assert changed.nonzero().flatten().tolist() == sorted(slot for slot in self.slots.tolist() if slot >= 0)


def in_torch(function: Any) -> Callable[..., Any]:
    """What `transformers` has of the function in torch, without what stands before it."""
    own = getattr(function, "_own", None) or inspect.getclosurevars(function).nonlocals["torch_function"]
    return own  # type: ignore[no-any-return]
