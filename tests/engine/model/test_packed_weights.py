import pytest
import torch
from torch import nn

from engine.model import packed_weights
from engine.model.fuse import merge_linears


class Block(nn.Module):
    """Merged and lone linears, with and without a bias; the last one large."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)
        self.down_proj, self.head = nn.Linear(40, 24), nn.Linear(24, 96, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gate_proj(x)
        output: torch.Tensor = self.head(self.down_proj(torch.tanh(gate) * self.up_proj(x)))
        return output


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 129, 300])
@torch.inference_mode()
def test_packed_linears_compute_the_same(rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed_weights, "SMALL", 24 * 90)
    block = Block()
    x = torch.randn(1, rows, 24)
    expected = block(x)
    merge_linears(block)
    assert packed_weights.pack_linears(block) == 3
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)
    assert block.head.weight.layout is torch._mkldnn, "a large weight is not held twice"
    assert block.down_proj.weight.layout is torch.strided


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 129, 300])
@torch.inference_mode()
def test_bfloat16_is_packed_where_the_cpu_multiplies_it(rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed_weights, "SMALL", 24 * 90)
    block = Block()
    x = torch.randn(1, rows, 24).to(torch.bfloat16)
    expected = block(x.float())
    block = block.to(torch.bfloat16)
    merge_linears(block)
    assert packed_weights.pack_linears(block) == (3 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 0)
    assert block(x).dtype == torch.bfloat16
    torch.testing.assert_close(block(x).float(), expected, atol=0.03, rtol=0.03)


@torch.inference_mode()
def test_float16_is_not_packed():
    block = Block().to(torch.float16)
    assert packed_weights.pack_linears(block) == 0


def test_hooks_stay_in_their_place():
    block = Block()
    seen = []
    block.head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert packed_weights.pack_linears(block) == 3
    with torch.inference_mode():
        block(torch.randn(1, 3, 24))
    assert seen == [(1, 3, 96)]
