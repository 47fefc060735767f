import math

import pytest
import torch

from kernels.attention.reference import attend, plain


@pytest.mark.parametrize("queries", [1, 3, 17, 65])
@pytest.mark.parametrize("keys", [1, 5, 33, 257])
@pytest.mark.parametrize("dim", [32, 80, 128, 256])
def test_attend_equals_the_definition(queries: int, keys: int, dim: int):
    query, key, value = torch.randn(queries, 4, dim), torch.randn(keys, 4, dim), torch.randn(keys, 4, dim)
    scale = dim**-0.5
    output, lse = attend(query.transpose(0, 1)[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None], scale)
    expected, expected_lse = plain(query, key, value, scale)
    torch.testing.assert_close(output[0].transpose(0, 1), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(lse[0].transpose(0, 1), expected_lse, atol=2e-5, rtol=1e-5)


def test_causal_and_shared_heads_need_no_copy_of_the_keys():
    query, key, value = torch.randn(9, 6, 32), torch.randn(9, 2, 32), torch.randn(9, 2, 32)
    grouped = query.view(9, 2, 3, 32).permute(1, 2, 0, 3)
    keys = key.transpose(0, 1)[:, None].expand(-1, 3, -1, -1)
    values = value.transpose(0, 1)[:, None].expand(-1, 3, -1, -1)
    output, lse = attend(grouped, keys, values, 0.2, causal=True)
    expected, expected_lse = plain(query, key, value, 0.2, diagonal=0)
    torch.testing.assert_close(output.permute(2, 0, 1, 3).reshape(9, 6, 32), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(lse.permute(2, 0, 1).reshape(9, 6), expected_lse, atol=2e-5, rtol=1e-5)


def test_lse_is_a_natural_logarithm():
    query, key = torch.zeros(1, 1, 8), torch.zeros(10, 1, 8)
    assert plain(query, key, key, 1.0)[1].item() == pytest.approx(math.log(10))
    assert attend(query[None], key.transpose(0, 1)[None], key.transpose(0, 1)[None], 1.0)[1].item() == pytest.approx(
        math.log(10)
    )


def test_definition_of_a_query_that_sees_nothing():
    output, lse = plain(torch.ones(2, 1, 4), torch.ones(3, 1, 4), torch.ones(3, 1, 4), 1.0, diagonal=-1)
    assert (output[0] == 0).all()
    assert lse[0].item() == -math.inf
    assert (output[1] == 1).all()


def test_bfloat16_keys_are_accumulated_in_float32():
    query, key, value = (torch.randn(2, 3, 70, 64, dtype=torch.bfloat16) for _ in range(3))
    output, lse = attend(query, key, value, 0.125)
    for head in range(3):
        expected, expected_lse = plain(query[0, head][:, None], key[0, head][:, None], value[0, head][:, None], 0.125)
        torch.testing.assert_close(output[0, head].float(), expected[:, 0], atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(lse[0, head].float(), expected_lse[:, 0], atol=1e-2, rtol=1e-2)
