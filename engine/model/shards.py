"""A model split over several processes by `transformers`' own tensor-parallel plan.

`transformers` reads each process's shards of the weights and hooks the modules that hold them: a layer's q, k, v, gate
and up give each process some of the heads and features ("colwise"), its o and down sum over the processes ("rowwise").
Behind those hooks the weights are DTensors, which cannot be merged (`engine.model.fuse`) and go through DTensor's
dispatcher on every call. `localize` therefore replaces linears and embeddings of the styles that decoders consist of by
plain modules over the same shards, and takes the hooks off experts, of which each process has some of the features of
each. Other styles of a plan keep `transformers`' hooks.

Layers with a recurrent state are whole in each process, and so are their states: plans split none of them, and at most
the weights of their projections, whose products are gathered.
"""

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.errors import LoadError
from engine.model.fuse import linear_of
from engine.model.quantization_config import method_of

# Styles that are tested here. A plan with another one is refused: the probe at load compares the split model with
# itself, so that it would not notice a style which computes something else than the whole model does.
STYLES = {
    "colwise",
    "rowwise",
    "colwise_gather_output",
    "colwise_rep",
    "rowwise_split_input",
    "rowwise_rep",
    "embedding_rowwise",
    "embedding_colwise",
    "replicated_with_grad_allreduce",
    # Of experts, and of their stacked weights: gate and up side by side, in rows or in columns.
    "moe_tp_experts",
    "packed_colwise",
    "packed_rowwise",
    "moe_identity_expert",
    # What gives each process the same: the latent keys' projection, and modules with parameters of their own.
    "mla_kv_a_proj",
    "local_params",
}
UNHOOKED = {"moe_tp_experts", "mla_kv_a_proj", "local_params"}
# Plans for kinds whose own one splits the embedding alone.
_ATTENTION = {f"layers.*.self_attn.{name}_proj": "colwise" for name in "qkv"} | {"layers.*.self_attn.o_proj": "rowwise"}
_DENSE = _ATTENTION | {
    "embed_tokens": "embedding_rowwise",
    "layers.*.mlp.gate_proj": "colwise",
    "layers.*.mlp.up_proj": "colwise",
    "layers.*.mlp.down_proj": "rowwise",
}
PLANS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("emu3", "emu3_text_model", "hunyuan_v1_dense"), _DENSE),
    # Gate and up of its experts lie beside each other, number by number; weights are `[experts, in, out]`.
    "gpt_oss": _ATTENTION
    | {
        "embed_tokens": "embedding_rowwise",
        "layers.*.self_attn": "local_params",
        "layers.*.self_attn.sinks": "colwise",
        "layers.*.mlp.experts": "moe_tp_experts",
        "layers.*.mlp.experts.gate_up_proj": "rowwise",
        "layers.*.mlp.experts.gate_up_proj_bias": "rowwise",
        "layers.*.mlp.experts.down_proj": "colwise",
    },
}
# Latent attention split by heads, where a kind's own plan leaves it whole: each process has all latents.
_LATENT = {f"layers.*.self_attn.{name}": "colwise" for name in ("q_proj", "q_b_proj", "kv_b_proj")}
_LATENT |= {"layers.*.self_attn.kv_a_proj_with_mqa": "mla_kv_a_proj", "layers.*.self_attn.o_proj": "rowwise"}
MORE = dict.fromkeys(("axk1", "deepseek_v3", "mistral4", "youtu"), _LATENT)
# Checkpoints that hold queries, keys and values in one weight, which `transformers`' loader cuts before it is whole.
MERGED = {"sarvam_moe"}
KEY_PROJECTIONS = {"k_proj", "qkv_proj", "query_key_value"}
LATENT_PROJECTION = "kv_b_proj"

# The same under torch 2.13's new name and the one that torch 2.11 knows.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


_alone = False  # see `alone`


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process sums and gathers nothing: for trials at load, which may differ between processes because
    each measures its own times. Only the processes' own parts are compared then.
    """
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _sum(x: Tensor) -> None:
    if not _alone:
        dist.all_reduce(x)


def check_split(config: Any, processes: int, quantization: str = "none") -> None:
    """Refuse to split what can't be split.

    Args:
        config: of `transformers`.
        processes: to split over, at least 2.
        quantization: see `engine.model.quantize`.

    Raises:
        LoadError: there is no plan for this architecture, it splits no layer, it holds an untested style, heads don't
            divide evenly, the weights are quantised in a way that is not dequantised, or a package is missing.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    plan = plan_of(config)
    if not plan:
        raise LoadError(f"transformers has no tensor-parallel plan for {kind} models: serve it on one device")
    if not any(".*." in name for name in plan):
        raise LoadError(
            f"the tensor-parallel plan of {kind} models splits {' and '.join(sorted(plan))} alone: each process would "
            "hold and compute all layers, so serve it on one device"
        )
    if kind in MERGED:
        raise LoadError(
            f"checkpoints of {kind} models hold queries, keys and values in one weight: serve it on one device"
        )
    if unknown := sorted(set(plan.values()) - STYLES):
        raise LoadError(
            f"the tensor-parallel plan of {kind} models has the style {unknown[0]}, which is not tested here"
        )
    if quantization != "none" or (getattr(config, "quantization_config", None) and not method_of(config)):
        raise LoadError(
            "weights that --quantization or torchao rounded can't be split over several processes here: serve them on "
            "one device"
        )
    split = {name.rsplit(".", 1)[-1] for name, style in plan.items() if style == "colwise"}
    if split & {*KEY_PROJECTIONS, LATENT_PROJECTION}:
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        if heads % processes or (kv_heads % processes and split & KEY_PROJECTIONS):
            raise LoadError(
                f"{heads} attention heads and {kv_heads} key/value heads can't be split evenly over {processes} "
                f"processes: take a --tensor-parallel that divides both"
            )
    if importlib.util.find_spec("accelerate") is None:
        raise LoadError("transformers loads split models with a package: pip install accelerate")


def plan_of(config: Any) -> dict[str, str]:
    """How a model is split: the style of each module or weight, by names below the decoder; empty if it can't be.

    Args:
        config: of `transformers`.
    """
    kind = getattr(config, "model_type", "")
    found = PLANS.get(kind) or getattr(config, "base_model_tp_plan", None)
    return dict(found or {}) | MORE.get(kind, {})


def localize(inner: Any) -> int:
    """Replace `transformers`' hooked modules by plain ones over the same local shards, in place.

    Args:
        inner: loaded with a `DistributedConfig`; all processes of the default group take part.

    Returns:
        The number of replaced modules.
    """
    plan: dict[str, str] = inner.tp_plan
    replaced = 0
    for name, module in list(inner.named_modules()):
        style = plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", name))
        plain = None if style is None else _plain(module, style)
        if plain is not None:
            inner.set_submodule(name, plain)
            replaced += 1
        elif style in UNHOOKED:
            _unhook(module)
            if style == "moe_tp_experts":
                module.forward = SummedForward(module)
            replaced += 1
    return replaced


def _unhook(module: nn.Module) -> None:
    """Take the hooks off a module, which then computes with this process's shards of its own parameters."""
    for name, parameter in list(module._parameters.items()):
        if parameter is not None:
            module._parameters[name] = _local(parameter)
    module.__dict__.pop("forward", None)
    module._forward_pre_hooks.clear()
    module._forward_hooks.clear()


class SummedForward:
    """The forward of experts whose inner features are split: the processes' results are summed."""

    def __init__(self, experts: nn.Module) -> None:
        self._forward = experts.forward
        bias = getattr(experts, "down_proj_bias", None)
        if bias is not None and dist.get_rank():  # added once
            experts.down_proj_bias = nn.Parameter(torch.zeros_like(bias), requires_grad=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the experts' own, the same everywhere."""
        part: Tensor = self._forward(*args, **kwargs)
        _sum(part)
        return part


def _plain(module: nn.Module, style: str) -> nn.Module | None:
    if type(module) is nn.Linear:
        weight, bias = _local(module.weight), None if module.bias is None else _local(module.bias)
        if style == "colwise":
            return linear_of(weight, bias)
        if style == "rowwise":
            return SummedLinear(weight, bias)
        if style in ("colwise_gather_output", "colwise_rep") and not module.out_features % dist.get_world_size():
            return GatheredLinear(weight, bias)
    elif type(module) is nn.Embedding and style == "embedding_rowwise" and module.max_norm is None:
        return SummedEmbedding(_local(module.weight), module.num_embeddings)
    return None


def _local(parameter: Tensor) -> nn.Parameter:
    """This process's shard, not copied: tied weights stay tied."""
    to_local = getattr(parameter, "to_local", None)  # of DTensor
    return nn.Parameter(parameter if to_local is None else to_local(), requires_grad=False)


class SummedLinear(nn.Module):
    """A linear whose input features are split ("rowwise"): the processes' products are summed, the bias added once."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        """
        Args:
            weight: `[out, own in]`.
            bias: `[out]`, whole.
        """
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """`[..., own in]` -> `[..., out]`, the same everywhere."""
        product = nn.functional.linear(x, self.weight)
        _sum(product)
        return product if self.bias is None else product + self.bias


class GatheredLinear(nn.Module):
    """A linear whose output features are split, and gathered by all ("colwise_gather_output"): the head."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        """
        Args:
            weight: `[own out, in]`, of the same size in every process.
            bias: `[own out]`.
        """
        super().__init__()
        self.weight, self.bias = weight, bias
        self._size = dist.get_world_size()
        self.in_features, self.out_features = weight.shape[1], weight.shape[0] * self._size

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]`, the same everywhere."""
        part = nn.functional.linear(x, self.weight, self.bias)
        if not part.numel():
            return part.new_empty((*part.shape[:-1], self.out_features))
        parts = part.new_empty((self._size * part.shape[0], *part.shape[1:]))
        if _alone:
            parts.zero_()
        else:
            _gather(parts, part.contiguous())
        return parts.view(self._size, *part.shape).movedim(0, -2).flatten(-2)


class SummedEmbedding(nn.Module):
    """An embedding whose vocabulary is split ("embedding_rowwise"): the process with a token's row adds it to zeros."""

    def __init__(self, weight: nn.Parameter, vocabulary: int) -> None:
        """
        Args:
            weight: `[own tokens, hidden]`: chunks of equal size, the last may be shorter.
            vocabulary: tokens of all processes.
        """
        super().__init__()
        self.weight = weight
        self.num_embeddings, self.embedding_dim = vocabulary, weight.shape[1]
        self._first = min(dist.get_rank() * -(-vocabulary // dist.get_world_size()), vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[...]` int64 -> `[..., hidden]`, the same everywhere."""
        own = tokens - self._first
        elsewhere = (own < 0) | (own >= self.weight.shape[0])
        rows = nn.functional.embedding(own.masked_fill(elsewhere, 0), self.weight)
        rows = torch.where(elsewhere[..., None], 0, rows)
        _sum(rows)
        return rows
