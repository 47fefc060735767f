"""Merged linears and fused norms, gates and residual additions, under the model's own forward code.

`transformers` computes `q_proj(x)`, `k_proj(x)`, `v_proj(x)` one after the other. The first is replaced by a product
with all three weights stacked; the others then return their slice of it. Small steps spend their time in calls, not
in arithmetic.

Other parts are recognised by their structure, not by the model's name, and only fused if they match the model's own
code on random input: a norm with another formula, a layer that scales its residual, or a gate other than SiLU fails
that test and stays as it is.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.fused_ops import ROWS, Ops, Trials, close, ops_for, random
from engine.model.kernel_trial import alike
from engine.model.quantized import stacks
from engine.model.quantized_linear import QuantizedLinear

Pair = tuple[Callable[[], Any], Callable[[], Any]]  # the fused function and the model's own
LOUD = 64.0  # a gate's largest number in a trial: what models clip them to is 7 to 16
GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _Shared:
    """The last product of one merged group, and the input it belongs to."""

    __slots__ = ("_left", "_parts", "_source", "merged")

    def __init__(self) -> None:
        self.merged: Callable[[Tensor], Sequence[Tensor]] = lambda x: ()
        self._source: Tensor | None = None
        self._parts: Sequence[Tensor] = ()
        self._left = 0  # parts that were not taken yet

    def take(self, place: int, x: Tensor) -> Tensor:
        """One part of the product with `x`, which is computed for the first that is taken."""
        if x is not self._source:
            self._source, self._parts = x, self.merged(x)
            self._left = len(self._parts)
        part = self._parts[place]
        self._left -= 1
        if not self._left:
            self._source, self._parts = None, ()
        return part


Linear = nn.Linear | QuantizedLinear


class MergedLinear(nn.Module):
    """Computes the product of the whole group; the first part is its own."""

    def __init__(self, linears: Sequence[Linear], whole: Linear, shared: _Shared) -> None:
        super().__init__()
        self.whole = whole
        sizes = [linear.out_features for linear in linears]
        self._shared = shared
        shared.merged = lambda x: torch.split(whole(x), sizes, dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self._shared.take(0, x)


class _Next(nn.Module):
    """Returns its part of the product that `MergedLinear` computes."""

    def __init__(self, place: int, shared: _Shared) -> None:
        super().__init__()
        self._place = place
        self._shared = shared

    def forward(self, x: Tensor) -> Tensor:
        return self._shared.take(self._place, x)


def merge_linears(model: nn.Module) -> int:
    """Replace mergeable groups of linears in place, anywhere in the model; return the number of merged groups.

    Groups with differently quantised, differently biased or differently shaped members are left as they are.
    """
    merged = 0
    for module in list(model.modules()):
        for names in GROUPS:
            linears = [getattr(module, name, None) for name in names]
            whole = _stacked(linears)
            if whole is None:
                continue
            shared = _Shared()
            setattr(module, names[0], MergedLinear(linears, whole, shared))  # type: ignore[arg-type]
            for place, name in enumerate(names[1:], start=1):
                setattr(module, name, _Next(place, shared))
            merged += 1
    return merged


def _stacked(linears: Sequence[Any]) -> Linear | None:
    """Linears as one, with their outputs side by side; `None` where they can't be."""
    kinds = {type(linear) for linear in linears}
    if kinds not in ({nn.Linear}, {QuantizedLinear}) or len({linear.bias is None for linear in linears}) != 1:
        return None
    if kinds == {QuantizedLinear}:
        return QuantizedLinear.stacked(linears) if stacks([linear.packed for linear in linears]) else None
    if not all(type(linear.weight) is nn.Parameter for linear in linears):
        return None
    if len({(linear.in_features, linear.weight.dtype) for linear in linears}) != 1:
        return None
    with torch.no_grad():
        biases = [linear.bias for linear in linears if linear.bias is not None]
        return linear_of(torch.cat([linear.weight for linear in linears]), torch.cat(biases) if biases else None)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear over these, not copied."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
    return linear


def fuse(model: nn.Module, ops: Ops | None = None) -> Counter[str]:
    """Fuse what can be fused, in place, after `merge_linears`.

    Args:
        model: on its device and in its dtype.
        ops: the implementation; default: the device's.

    Returns:
        How many of each kind were fused: `norm`, `gate`, `layer`.
    """
    like = next(model.parameters())
    device = like.device
    chosen = ops or ops_for(device, like.dtype)
    trials = Trials(device)
    with torch.no_grad():
        counts = Counter(norm=_fuse_norms(model, chosen, trials), gate=_fuse_gates(model, chosen, trials, like))
        counts["layer"] = _fuse_layers(model, trials, like) if chosen.one_pass else 0
    return counts


class _FusedRMSNorm(nn.Module):
    """An RMS norm in one call instead of six. Its result may be set before it is called (`_fuse_layers`)."""

    def __init__(self, weight: Tensor, eps: float, ops: Ops) -> None:
        super().__init__()
        self.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        self.eps = eps
        self._ops = ops
        self._told: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        told, self._told = self._told, None
        if told is not None and told[0] is x:
            return told[1]
        return self._ops.rms_norm(x, self.weight, self.eps)

    def after_addition(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of the sum, and the sum."""
        return self._ops.add_rms_norm(x, residual, self.weight, self.eps)

    def tell(self, x: Tensor, result: Tensor) -> None:
        """Set the norm of `x` beforehand."""
        self._told = x, result


def _fuse_norms(model: nn.Module, ops: Ops, trials: Trials) -> int:
    replaced = 0
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            fused = _fused_norm(norm, ops)
            if fused is None:
                continue
            size = fused.weight.shape[0]

            def make(fused: Any = fused, norm: Any = norm, size: int = size) -> Pair:
                x = random(ROWS, 1 if size > 512 else 8, size, like=norm.weight)  # short ones are of heads
                return lambda: fused(x), lambda: norm(x)

            if trials.pays("RMS norm", size, make):
                setattr(parent, name, fused)
                replaced += 1
    return replaced


def _fused_norm(norm: nn.Module, ops: Ops) -> _FusedRMSNorm | None:
    """The equivalent fused norm, if there is one. Gemma's norms multiply with one plus their weight."""
    weight = getattr(norm, "weight", None)
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if not type(norm).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or not isinstance(eps, float):
        return None
    if weight.ndim != 1 or not weight.is_floating_point() or "weight" in norm._buffers:  # those are not used
        return None
    sample = random(4, weight.shape[0], like=weight)
    samples = (sample, sample * 1e-3)  # eps matters to the second
    for factor in (weight, 1.0 + weight.float()):
        fused = _FusedRMSNorm(factor, eps, ops)
        if all(close(fused(x), norm(x)) for x in samples):
            return fused
    return None


class _GateForward:
    """The forward of a SiLU-gated MLP: the merged product goes into the gate as it is, without a copy of its halves."""

    def __init__(self, mlp: Any, ops: Ops) -> None:
        self._mlp = mlp
        self._ops = ops

    def __call__(self, x: Tensor) -> Tensor:
        first = getattr(self._mlp, "gate_proj", None)
        product = self._mlp.gate_up_proj(x) if first is None else first.whole(x)
        down: Tensor = self._mlp.down_proj(self._ops.silu_mul(product))
        return down


def _fuse_gates(model: nn.Module, ops: Ops, trials: Trials, like: Tensor) -> int:
    changed = 0
    for mlp in list(model.modules()):
        product = _product(mlp)
        if product is None or not isinstance(getattr(mlp, "down_proj", None), nn.Module):
            continue
        fused = _GateForward(mlp, ops)
        sample = random(4, product.in_features, like=like)
        loud = sample * (LOUD / float(product(sample).abs().max().clamp_min(1e-3)))  # beyond where some models clip
        inner = random(4, product.out_features, like=like)
        if not close(ops.silu_mul(inner), _gate(inner)) or not all(_alike(fused, mlp, x) for x in (sample, loud)):
            continue

        def make(product: Linear = product) -> Pair:
            x = random(ROWS, product.out_features, like=like)
            return lambda: ops.silu_mul(x), lambda: _gate(x)

        if trials.pays("SiLU gate", product.out_features // 2, make):
            mlp.forward = fused
            changed += 1
    return changed


def _product(mlp: nn.Module) -> Linear | None:
    """The linear that computes gate and up at once."""
    if isinstance(merged := getattr(mlp, "gate_proj", None), MergedLinear):
        return merged.whole
    found = getattr(mlp, "gate_up_proj", None)
    plain = type(found) is nn.Linear and type(found.weight) is nn.Parameter
    return found if plain or isinstance(found, QuantizedLinear) else None


def _gate(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return nn.functional.silu(gate) * up


def _alike(fused: Callable[[Tensor], Any], plain: Callable[[Tensor], Any], x: Tensor) -> bool:
    """Whether both give the same result for `x`."""
    try:
        expected = plain(x)
        found = fused(x)
    except Exception:  # code of any model, called outside its context: it may fail in any way
        return False
    return alike(found, expected)


# -- residual additions -----------------------------------------------------------------------------------------------

LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}


def _fuse_layers(model: nn.Module, trials: Trials, like: Tensor) -> int:
    """Give decoder layers like Llama's a forward that adds and normalises in one pass. The addition at a layer's end is
    computed together with the next layer's norm. That norm recognises its input by identity; if anything changes it in
    between, it computes the norm itself.
    """
    fused = 0
    for decoder in list(model.modules()):
        layers = getattr(decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            continue
        followers = [getattr(layer, "input_layernorm", None) for layer in layers[1:]] + [getattr(decoder, "norm", None)]
        for layer, follower in zip(layers, followers, strict=True):
            norms = (getattr(layer, "post_attention_layernorm", None), follower)
            if {name for name, _ in layer.named_children()} != LAYER:
                continue
            if not all(isinstance(norm, _FusedRMSNorm) for norm in norms):
                continue
            if not _layer_is_equal(layer, follower, like) or not _addition_pays(follower, trials, like):
                continue
            layer.forward = _LayerForward(layer, follower)
            fused += 1
    return fused


class _LayerForward:
    """The forward of one layer."""

    def __init__(self, layer: Any, follower: Any) -> None:
        self._layer = layer
        self._follower = follower

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self._layer
        if args:
            raise TypeError("a fused decoder layer takes its other arguments by name")
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        normed, residual = layer.post_attention_layernorm.after_addition(attended, hidden_states)
        normed, output = self._follower.after_addition(layer.mlp(normed), residual)
        self._follower.tell(output, normed)
        return output  # type: ignore[no-any-return]


class _Stub(nn.Module):
    """Attention of each token to itself alone."""

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        return hidden_states.flip(-1), None


def _layer_is_equal(layer: Any, follower: Any, like: Tensor) -> bool:
    """Whether the layer around its attention does what `_LayerForward` does."""
    sample = random(1, 4, follower.weight.shape[0], like=like)
    fused = _LayerForward(layer, follower)

    def plain(x: Tensor) -> Any:
        return type(layer).forward(layer, hidden_states=x)

    attention = layer.self_attn
    layer.self_attn = _Stub()
    try:
        return _alike(fused, plain, sample) and _alike(
            lambda x: follower(fused(x)), lambda x: follower(plain(x)), sample
        )
    finally:
        layer.self_attn = attention


def _addition_pays(norm: Any, trials: Trials, like: Tensor) -> bool:
    size = norm.weight.shape[0]

    def make() -> Pair:
        x, residual = random(2, ROWS, size, like=like).unbind()
        return lambda: norm.after_addition(x, residual), lambda: norm(x + residual)

    return trials.pays("residual addition and RMS norm", size, make)
