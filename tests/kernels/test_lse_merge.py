import math

import pytest
import torch

from kernels.attention.reference import plain
from kernels.lse_merge.reference import merge_levels, merge_partials


def _split(lengths: list[int], rows: int = 5, heads: int = 4):
    """Attention over all keys, and the partial results over consecutive ranges of them."""
    query = torch.randn(rows, heads, 16)
    key, value = torch.randn(sum(lengths), heads, 16) * 3, torch.randn(sum(lengths), heads, 16)
    outputs, levels, begin = [], [], 0
    for length in lengths:
        output, lse = plain(query, key[begin : begin + length], value[begin : begin + length], 0.25)
        outputs.append(output)
        levels.append(lse)
        begin += length
    parts = torch.arange(len(lengths) * rows).view(len(lengths), rows).T.contiguous()
    return plain(query, key, value, 0.25), torch.cat(outputs), torch.cat(levels), parts


@pytest.mark.parametrize("lengths", [[7], [3, 4], [1, 1, 1], [40, 2, 9, 1]], ids=str)
def test_merge_equals_attention_over_all_keys(lengths: list[int]):
    (expected, expected_lse), partials, lse, parts = _split(lengths)
    output, total = merge_partials(partials, lse, parts)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total, expected_lse, atol=1e-5, rtol=1e-5)


def test_base_two_would_be_noticed():
    (expected, _), partials, lse, parts = _split([30, 30])
    wrong, _ = merge_partials(partials, lse / math.log(2), parts)
    assert (wrong - expected).abs().max() > 0.01


def test_strides_of_the_lse_do_not_matter():
    (expected, _), partials, lse, parts = _split([8, 5, 3])
    layout = torch.empty(lse.shape[1], lse.shape[0] * 2).T[::2]  # [slots, heads], neither dimension contiguous
    layout.copy_(lse)
    assert not layout.is_contiguous()
    output, _ = merge_partials(partials, layout, parts)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_unused_places_and_rows_without_keys():
    (expected, expected_lse), partials, lse, parts = _split([6, 2])
    partials = torch.cat((partials, torch.zeros(1, 4, 16)))
    lse = torch.cat((lse, torch.full((1, 4), -math.inf)))
    empty = partials.shape[0] - 1
    wide = torch.full((6, 4), empty)
    wide[:5, 1:3] = parts
    output, total = merge_partials(partials, lse, wide)
    torch.testing.assert_close(output[:5], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total[:5], expected_lse, atol=1e-5, rtol=1e-5)
    assert (output[5] == 0).all()
    assert (total[5] == -math.inf).all()


def test_large_and_small_scores_neither_overflow_nor_vanish():
    partials = torch.tensor([[[1.0]], [[3.0]]])
    for level in (-1e4, 0.0, 1e4):
        output, total = merge_partials(partials, torch.full((2, 1), level), torch.tensor([[0, 1]]))
        assert output.item() == pytest.approx(2.0)
        assert total.item() == pytest.approx(level + math.log(2), rel=1e-6)


def test_half_precision_partials_are_merged_in_float32():
    partials = torch.tensor([[[1.0]], [[1.0078125]]], dtype=torch.bfloat16)
    output, total = merge_partials(partials, torch.zeros(2, 1, dtype=torch.bfloat16), torch.tensor([[0, 1]]))
    assert output.dtype == total.dtype == torch.float32
    assert output.item() == 1.00390625  # not representable in bfloat16


@pytest.mark.parametrize("lengths", [[7], [3, 4], [40, 2, 9, 1]], ids=str)
def test_levels_are_merged_as_parts_are(lengths: list[int]):
    (expected, _), partials, lse, parts = _split(lengths)
    lse[parts[2, 0]] = -math.inf
    partials[parts[2, 0]] = 0
    lse[parts[4]] = -math.inf
    partials[parts[4]] = 0
    values, levels = partials.view(len(lengths), 5, 4, 16), lse.view(len(lengths), 5, 4)
    other, _ = merge_partials(partials, lse, parts)
    found = merge_levels(values.permute(2, 0, 1, 3).contiguous(), levels.permute(2, 0, 1).contiguous())
    torch.testing.assert_close(found.transpose(0, 1), other, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(other[:2], expected[:2], atol=1e-5, rtol=1e-5)
    assert (found[:, 4] == 0).all()
