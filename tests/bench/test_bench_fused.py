import pytest
import torch

from engine.model.fused_ops import REFERENCE
from tests.bench.bench_fused import Size, agree, cases


@pytest.mark.parametrize("rows", [1, 5])
def test_every_operation_is_compared_before_it_is_timed(rows: int):
    found = list(cases(Size("tiny", 24, 20, 4, 2, 8), rows, torch.empty(0), REFERENCE))
    assert [name for name, _, _ in found] == ["RMS norm", "addition and RMS norm", "SiLU-mul", "RoPE and store"]
    assert all(agree(fused, plain) for _, fused, plain in found)


def test_what_differs_is_seen():
    x = torch.randn(4)
    assert agree(lambda: x, lambda: x + 0)
    assert not agree(lambda: x, lambda: x * 1.01)
    assert not agree(lambda: (x, x), lambda: (x, x * 1.01))
