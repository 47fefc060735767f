"""Capuchin's network for training: the Llama architecture, written for speed on a CPU.

`transformers` runs the same weights; a test compares the logits. Here q/k/v and gate/up are one matrix each,
activations are bfloat16, and the head is computed only for tokens with a loss. Everything but attention gets one
constant shape, so that `torch.compile` compiles it once.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of the network, by the names of `transformers.LlamaConfig`."""

    vocab_size: int = 4096
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 704
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 4096


def rope_tables(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [length, head_dim], in transformers' half-split layout."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angle = torch.arange(length, dtype=torch.float32)[:, None] * shape.rope_theta ** -half[None, :]
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, computed in float32."""
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)
    return (weight * y).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [tokens, heads, head_dim] by tables [tokens, 1, head_dim]."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)


def before(
    x: Tensor, weight: Tensor, qkv: Tensor, tables: tuple[Tensor, Tensor], heads: int, kv: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Norm, projections and rotary embedding of x [tokens, hidden]: q, k, v, each [tokens, heads or kv, head_dim].

    `tables`: cosines and sines, as `rotate` takes them.
    """
    y = F.linear(norm(x, weight, eps), qkv)
    y = y.view(x.shape[0], heads + 2 * kv, -1)
    q, k, v = torch.split(y, [heads, kv, kv], dim=1)
    return rotate(q, *tables), rotate(k, *tables), v.contiguous()


def after(x: Tensor, mixed: Tensor, o: Tensor, weight: Tensor, gate_up: Tensor, down: Tensor, eps: float) -> Tensor:
    """Output projection, residual, and the gated feed-forward of x [tokens, hidden]."""
    x = x + F.linear(mixed, o)
    gate, up = F.linear(norm(x, weight, eps), gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, down)


class Layer(nn.Module):
    """The weights of one decoder layer; matrices are [out, in]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.num_attention_heads * shape.head_dim
        kv = shape.num_key_value_heads * shape.head_dim
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.input_norm = nn.Parameter(torch.ones(hidden))
        self.post_norm = nn.Parameter(torch.ones(hidden))
        self.qkv = nn.Parameter(torch.randn(width + 2 * kv, hidden) * hidden**-0.5 * 0.6)
        self.o = nn.Parameter(torch.zeros(hidden, width))
        self.gate_up = nn.Parameter(torch.randn(2 * inner, hidden) * hidden**-0.5 * 0.6)
        self.down = nn.Parameter(torch.zeros(hidden, inner))


class Capuchin(nn.Module):
    """The network. Training calls `loss`; `to_transformers` names the weights as `transformers` does."""

    def __init__(self, shape: Shape, compiled: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.tables = rope_tables(shape, shape.max_position_embeddings)
        self._before = torch.compile(before, dynamic=False) if compiled else before
        self._after = torch.compile(after, dynamic=False) if compiled else after

    def hidden(self, ids: Tensor) -> Tensor:
        """Final normed states [batch * length, hidden] of ids [batch, length], padded on the right."""
        shape, (batch, length) = self.shape, ids.shape
        heads, kv, eps = shape.num_attention_heads, shape.num_key_value_heads, shape.rms_norm_eps
        cos, sin = (table[:length].repeat(batch, 1)[:, None, :] for table in self.tables)
        x = F.embedding(ids.reshape(-1), self.embed)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            q, k, v = self._before(x, layer.input_norm, layer.qkv, (cos, sin), heads, kv, eps)
            q, k, v = (t.view(batch, length, -1, shape.head_dim).transpose(1, 2) for t in (q, k, v))
            k, v = (t.repeat_interleave(heads // kv, dim=1) for t in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # padding is last: no token attends to it
            mixed = mixed.transpose(1, 2).reshape(batch * length, heads * shape.head_dim)
            x = self._after(x, mixed, layer.o, layer.post_norm, layer.gate_up, layer.down, eps)
        return norm(x, self.norm, eps)

    def loss(self, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean cross-entropy [], and the same over full-weight tokens alone (detached).

        ids int64 [batch, length]; weights float32 [batch, length] is the weight of the prediction of that token.
        """
        hidden = self.hidden(ids)
        weight = F.pad(weights[:, 1:], (0, 1)).reshape(-1)
        target = F.pad(ids[:, 1:], (0, 1)).reshape(-1)
        rows = weight.nonzero().squeeze(1)
        logits = F.linear(hidden[rows], self.embed)
        each = F.cross_entropy(logits.float(), target[rows], reduction="none")
        weight = weight[rows]
        full = (weight >= 1.0).float()
        told = (each.detach() * full).sum() / full.sum().clamp(min=1)
        return (each * weight).sum() / weight.sum().clamp(min=1e-6), told

    def to_transformers(self) -> dict[str, Tensor]:
        """The weights under the names of `transformers.LlamaForCausalLM`, without the tied head."""
        shape = self.shape
        width = shape.num_attention_heads * shape.head_dim
        kv = shape.num_key_value_heads * shape.head_dim
        out: dict[str, Tensor] = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            q, k, v = torch.split(layer.qkv, [width, kv, kv])
            gate, up = layer.gate_up.chunk(2)
            named = {
                "self_attn.q_proj": q,
                "self_attn.k_proj": k,
                "self_attn.v_proj": v,
                "self_attn.o_proj": layer.o,
                "mlp.gate_proj": gate,
                "mlp.up_proj": up,
                "mlp.down_proj": layer.down,
                "input_layernorm": layer.input_norm,
                "post_attention_layernorm": layer.post_norm,
            }
            out.update({f"model.layers.{index}.{name}.weight": tensor for name, tensor in named.items()})
        return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}

    @torch.no_grad()
    def from_transformers(self, weights: dict[str, Tensor]) -> None:
        """Load what `to_transformers` gave. Raises `KeyError` if a tensor is missing."""
        self.embed.copy_(weights["model.embed_tokens.weight"])
        self.norm.copy_(weights["model.norm.weight"])
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)

            def of(*names: str, index: int = index) -> Tensor:
                return torch.cat([weights[f"model.layers.{index}.{name}.weight"] for name in names])

            layer.qkv.copy_(of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
            layer.o.copy_(of("self_attn.o_proj"))
            layer.gate_up.copy_(of("mlp.gate_proj", "mlp.up_proj"))
            layer.down.copy_(of("mlp.down_proj"))
            layer.input_norm.copy_(of("input_layernorm"))
            layer.post_norm.copy_(of("post_attention_layernorm"))
