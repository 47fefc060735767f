from typing import Any

import pytest
import torch

from kernels.kv_store import reference, triton
from kernels.kv_store.reference import copy_slots, store
from tests.kernels.interpreting import DEVICE, interpret

interpret()


def test_store_writes_its_slots_and_nothing_else():
    key_cache, value_cache = torch.full((2, 3, 20, 8), torch.nan)
    slots = torch.tensor([4, 19, 0])
    key, value = torch.randn(3, 3, 8).transpose(0, 1), torch.randn(3, 3, 8)
    store(key, value, key_cache, value_cache, slots)
    assert torch.equal(key_cache[:, slots], key)
    assert torch.equal(value_cache[:, slots], value)
    untouched = [slot for slot in range(20) if slot not in (0, 4, 19)]
    assert key_cache[:, untouched].isnan().all()
    assert value_cache[:, untouched].isnan().all()


@pytest.mark.gpu
@pytest.mark.parametrize("way", [reference, triton], ids=["torch", "triton"])
def test_keys_that_are_values_are_stored_once(way: Any):
    cache = torch.zeros(1, 20, 48, device=DEVICE)
    slots, key = torch.tensor([4, 19, 0], device=DEVICE), torch.randn(1, 3, 48, device=DEVICE)
    way.store(key, None, cache, None, slots)
    assert torch.equal(cache[:, slots], key)
    assert torch.count_nonzero(cache) == key.numel()


def test_copy_moves_every_layer_and_head():
    cache = torch.randn(3, 2, 2, 12, 4)
    before = cache.clone()
    copy_slots(cache, torch.tensor([1, 2, 3]), torch.tensor([8, 9, 10]))
    assert torch.equal(cache[..., 8:11, :], before[..., 1:4, :])
    assert torch.equal(cache[..., :8, :], before[..., :8, :])
