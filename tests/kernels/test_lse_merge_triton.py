"""The Triton merge against the reference."""

import math

import pytest
import torch

from kernels.lse_merge import reference
from kernels.lse_merge.triton import Parts, merge_partials, merge_ranges
from tests.kernels.interpreting import DEVICE, DTYPES

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "heads", "dim", "width"), [(3, 1, 32, 1), (2, 5, 80, 3), (1, 3, 17, 11), (2, 8, 256, 4)], ids=str
)
def test_merge_equals_the_reference(rows: int, heads: int, dim: int, width: int, dtype: torch.dtype):
    slots = rows * width + 2
    partials = torch.randn(slots, heads, dim, device=DEVICE).to(dtype)
    lse = (torch.randn(slots, heads, device=DEVICE) * 8).to(dtype)
    lse[slots // 2, 0] = lse[-1] = -math.inf
    partials[slots // 2, 0] = partials[-1] = 0
    parts = torch.randperm(slots, device=DEVICE)[: rows * width].view(rows, width)
    parts[0, -1] = slots - 1
    expected = reference.merge_partials(partials, lse, parts)
    partials[-1] = torch.nan  # unused places are not read
    found = merge_partials(partials, lse, parts)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.is_contiguous()
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_strides_do_not_matter():
    partials, lse = torch.randn(6, 3, 32, device=DEVICE), torch.randn(6, 3, device=DEVICE)
    parts = torch.arange(6, device=DEVICE).view(3, 2)
    expected = merge_partials(partials, lse, parts)
    odd = torch.empty(32, 3, 12, device=DEVICE).permute(2, 1, 0)[::2].copy_(partials)
    layout = torch.empty(3, 12, device=DEVICE).T[::2].copy_(lse)
    assert not odd.is_contiguous()
    assert not layout.is_contiguous()
    for one, other in zip(merge_partials(odd, layout, parts), expected, strict=True):
        assert torch.equal(one, other)


def test_rows_of_any_number_of_parts_and_one_that_ends_the_list():
    partials, lse = torch.randn(9, 2, 16, device=DEVICE), torch.randn(9, 2, device=DEVICE)
    starts = torch.tensor([0, 0, 7, 8, 8], dtype=torch.int32, device=DEVICE)
    slots = torch.tensor([8, 1, 2, 3, 4, 5, 6, 0], dtype=torch.int32, device=DEVICE)
    output, level = merge_ranges(Parts(partials, lse, starts, slots), 4, torch.float16)
    assert output.dtype == torch.float16
    assert (output[[0, 3]] == 0).all()
    assert (level[[0, 3]] == -math.inf).all()
    torch.testing.assert_close(level[1], torch.logsumexp(lse[slots[:7].long()], 0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output[2].float(), partials[0], atol=2e-3, rtol=2e-3)


def test_base_two_would_be_noticed():
    partials = torch.tensor([[[0.0] * 16], [[1.0] * 16]], device=DEVICE)
    lse = torch.tensor([[math.log(3)], [0.0]], device=DEVICE)
    parts = torch.tensor([[0, 1]], device=DEVICE)
    output, level = merge_partials(partials, lse, parts)
    assert output.unique().item() == pytest.approx(0.25)
    assert level.item() == pytest.approx(math.log(4))
