"""What can be wrong in the baseline without llama.cpp at hand."""

import torch

from tests.bench.llama_baseline import _common, _pairs


def test_rows_of_q_and_k_are_put_in_the_order_of_the_other_rotation():
    """Halves rotated by `transformers` are neighbours rotated by llama.cpp."""
    heads, dim, width = 3, 8, 5
    weight, x, angle = torch.randn(heads * dim, width), torch.randn(width), torch.randn(dim // 2)
    halves = (weight @ x).view(heads, dim)
    cos, sin = angle.cos().repeat(2), angle.sin().repeat(2)
    rotated = halves * cos + torch.cat((-halves[:, dim // 2 :], halves[:, : dim // 2]), dim=1) * sin
    pairs = torch.view_as_complex((_pairs(weight, heads) @ x).view(heads, dim // 2, 2))
    turned = torch.view_as_real(pairs * torch.polar(torch.ones(dim // 2), angle))
    torch.testing.assert_close(turned.transpose(1, 2).reshape(heads, dim), rotated)


def test_what_prompts_share_leaves_each_a_token_of_its_own():
    assert _common([[1, 2, 3], [1, 2, 4]]) == 2
    assert _common([[1, 2, 3], [1, 2, 3]]) == 2
    assert _common([[1, 2, 3, 4], [1, 2]]) == 1
    assert _common([[5], [6]]) == 0
