"""The gate at load: a model is served only if the engine computes what `transformers` computes.

The configuration is checked first (`engine.model.features`), then the arguments of the attention function
(`engine.model.attention`). Neither shows undeclared features, so three trials on random tokens follow:

1. **Masks.** The model's own code builds its attention masks for a text of thousands of tokens, with every product
   left out, so that it takes no time: each must let a token see all tokens before it. Windows, chunks and
   bidirectional attention show here.
2. **Function.** All layers over hundreds of tokens (as many as a few seconds allow), in float32 whatever the weights'
   dtype, with `transformers`' eager attention and with ours: the same to within float32's rounding. Sinks, caps,
   biases and patterns inside of the attention modules show here.
3. **Rounding.** The model as it will run, merged and fused, in its own dtype: its error against the float32 logits is
   not larger than that of `transformers` in that dtype.

A reference must be better than what it judges: in bfloat16 the logits of a real model differ from float32 by half a
standard deviation here and there, with `transformers`' eager attention by more than one.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from engine.errors import LoadError, UnsupportedModelError
from engine.model.attention import NAME, ProbeContext, attending
from engine.model.fuse import fuse, merge_linears
from engine.model.rotary import RotaryError, can_put_off, putting_off
from engine.model.shards import alone
from engine.model.upcast import float32_weights

HOLLOW = "troop_hollow"  # the attention of trial 1
LONGEST_HOLLOW = {"cpu": 4_352, "cuda": 8_448}  # tokens of trial 1: a little more than the windows in use
LONGEST, SHORTEST = 640, 64  # tokens of trial 2
OPERATIONS = {"cpu": 5e11, "cuda": 4e13}  # of one run of trial 2, a few seconds
SCORES = 1 << 28  # numbers in a layer's attention scores, as eager attention stores them
SAME = 1e-3  # standard deviations of the logits: float32's rounding
# An error this small needs no comparison; one within this factor of `transformers`' own is rounding.
SMALL, FACTOR = 0.01, 1.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passed:
    """What the gate learned about a model."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary: bool  # its rotary embedding can be deferred, see `engine.model.rotary`


def logits_of(inner: Any, tokens: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    """The forward pass alone: logits of the `wanted` rows, `[wanted, vocabulary]` float32."""
    logits: Tensor = inner(
        input_ids=tokens[None], position_ids=positions[None], use_cache=False, logits_to_keep=wanted
    ).logits
    return logits[0].float()


@torch.inference_mode()
def pass_gate(inner: Any, vocabulary: int, longest: int) -> Passed:
    """Try a model that was loaded with attention `troop_tree`; merge and fuse its parts in place.

    Args:
        inner: on its device, in its dtype.
        vocabulary: size of.
        longest: tokens in the longest text that will be served.

    Raises:
        UnsupportedModelError: it computes something else with `transformers`' own attention, or fails to compute.
        LoadError: its numbers overflow in this dtype.
    """
    begin = time.perf_counter()
    kind = getattr(inner.config, "model_type", type(inner).__name__)
    try:
        passed = _try_all(inner, vocabulary, longest)
    except LoadError:
        raise
    except torch.OutOfMemoryError as error:
        raise LoadError(f"no memory is left for a trial run of this model: {error}") from error
    except Exception as error:  # code of any model: it may fail in any way
        _log.debug("trial run of a %s model", kind, exc_info=True)
        words = " ".join(str(error).split())[:300]
        raise UnsupportedModelError(
            f"the code of {kind} models", f"its trial run failed with {type(error).__name__}: {words}"
        ) from error
    _log.info("a trial run gave transformers' logits, %.1f s", time.perf_counter() - begin)
    return passed


def _try_all(inner: Any, vocabulary: int, longest: int) -> Passed:
    device, dtype = _place(inner)
    _try_masks(inner, vocabulary, min(longest, LONGEST_HOLLOW.get(device.type, 4_352)))
    count = _affordable(inner, device, longest)
    tokens = torch.arange(1, count + 1, device=device) * 7919 % vocabulary
    positions = torch.arange(count, device=device)

    def run(implementation: str) -> Tensor:
        inner.set_attn_implementation(implementation)
        with attending(ProbeContext(longest)):
            return logits_of(inner, tokens, positions, positions)

    exact, natural = dtype == torch.float32, 0.0
    reference = _in_float32(inner, lambda: run("eager"))
    if not torch.isfinite(reference).all():
        raise LoadError("this model's logits are not finite, not even in float32: its weights are damaged")
    if not exact:
        natural = _error(_finite(run("eager"), dtype), reference)
        _check_function(_in_float32(inner, lambda: run(NAME)), reference, inner.config)
    inner.set_attn_implementation(NAME)
    merge_linears(inner)
    with alone():
        fuse(inner)
    probe, found, rotary = _attend_once(inner, tokens, positions, longest)
    if sorted(probe.layers) != list(range(len(probe.layers))) or not probe.layers:
        raise UnsupportedModelError("attention outside of transformers' attention interface", str(probe.layers))
    if len(probe.shapes) != 1:
        raise UnsupportedModelError("layers with different numbers of heads", str(sorted(probe.shapes)))
    if exact:
        _check_function(found, reference, inner.config)
    else:
        _check_rounding(found, reference, natural, dtype)
    heads, kv_heads, head_dim = probe.shapes.pop()
    return Passed(len(probe.layers), heads, kv_heads, head_dim, rotary)


def _place(inner: Any) -> tuple[torch.device, torch.dtype]:
    parameter = next(inner.parameters())
    return parameter.device, parameter.dtype


# -- masks ------------------------------------------------------------------------------------------------------------


_ELEMENTWISE = {
    torch.nn.functional.silu,
    torch.nn.functional.gelu,
    torch.mul,
    Tensor.mul,
    Tensor.__mul__,
}


class _NoProducts(TorchFunctionMode):
    """Linears return zeros, and products with zeros are not computed."""

    def __init__(self, stored: bool) -> None:
        """With `stored`, zeros take memory as other tensors do, for code that writes into them."""
        super().__init__()
        self._stored = stored

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear:
            x, weight = args[:2] if len(args) > 1 else (args[0], (kwargs or {})["weight"])
            shape = (*x.shape[:-1], weight.shape[0])
            return x.new_zeros(shape) if self._stored else x.new_zeros(()).expand(shape)
        if func in _ELEMENTWISE and _is_constant(args[0]):
            shapes = [x.shape for x in args if isinstance(x, Tensor)]
            return args[0].expand(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _is_constant(x: Any) -> bool:
    """Whether a tensor is a single expanded number: zero, in a run without products."""
    return isinstance(x, Tensor) and x.numel() > 1 and not any(x.stride())


class _Masks:
    """The masks of one run, each checked once."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []

    def look_at(self, mask: Tensor) -> None:
        """Check a mask.

        Raises:
            UnsupportedModelError: it is not causal.
        """
        if any(mask is one for one in self._seen):
            return
        self._seen.append(mask)
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        length = allowed.shape[-1]
        causal = torch.ones(allowed.shape[-2], length, dtype=torch.bool, device=mask.device).tril()
        if torch.equal(allowed, causal.expand_as(allowed)):
            return
        last = int(allowed[0, 0, -1].sum())
        raise UnsupportedModelError(
            "attention to other tokens than all those before",
            f"the last of {length} tokens sees {last}: limit the context to what each token sees (--max-model-len)",
        )


_looking = threading.local()  # several engines may live in one process, each in its own thread


def _hollow(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any) -> Any:
    masks: _Masks | None = getattr(_looking, "masks", None)
    if masks is not None and attention_mask is not None:
        masks.look_at(attention_mask)
    return value.new_zeros((query.shape[0], query.shape[2], query.shape[1], value.shape[-1])), None


def _whole_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    mask: Tensor | None = sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": False}))
    return mask


AttentionInterface.register(HOLLOW, _hollow)
AttentionMaskInterface.register(HOLLOW, _whole_mask)


@contextmanager
def _looking_at_masks() -> Iterator[None]:
    _looking.masks = _Masks()
    try:
        yield
    finally:
        _looking.masks = None


def _try_masks(inner: Any, vocabulary: int, length: int) -> None:
    """Trial 1.

    Raises:
        UnsupportedModelError: a mask is not causal.
    """
    device, _ = _place(inner)
    tokens = torch.arange(length, device=device) % vocabulary
    positions = torch.arange(length, device=device)
    inner.set_attn_implementation(HOLLOW)
    split = (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    )  # sums write into products, unchecked
    with _looking_at_masks(), alone():
        try:
            with _NoProducts(stored=split):
                logits_of(inner, tokens, positions, positions[-1:])
        except RuntimeError:  # code that views its products in other shapes, or writes into them
            with _NoProducts(stored=True):
                logits_of(inner, tokens, positions, positions[-1:])


# -- numbers ----------------------------------------------------------------------------------------------------------


def _affordable(inner: Any, device: torch.device, longest: int) -> int:
    """Tokens of trial 2."""
    weights = sum(parameter.numel() for parameter in inner.parameters())
    heads = int(getattr(inner.config, "num_attention_heads", None) or 64)
    time_allows = OPERATIONS.get(device.type, 5e11) / (2 * weights)
    memory_allows = (SCORES / heads) ** 0.5
    return min(longest, max(SHORTEST, int(min(LONGEST, time_allows, memory_allows))))


def _in_float32(inner: Any, run: Callable[[], Tensor]) -> Tensor:
    with float32_weights(inner):
        return run()


def _finite(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """The logits, which must be finite.

    Raises:
        LoadError: they are not, so another dtype is needed.
    """
    if not torch.isfinite(logits).all():
        other = "bfloat16" if dtype == torch.float16 else "float32"
        raise LoadError(f"this model's numbers overflow in {_name(dtype)}: serve it with --dtype {other}")
    return logits


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _error(found: Tensor, reference: Tensor) -> float:
    """Root mean square of the error, in standard deviations of the reference."""
    return ((found - reference).square().mean().sqrt() / reference.std().clamp_min(1e-6)).item()


def _check_function(found: Tensor, reference: Tensor, config: Any) -> None:
    """Refuse a model that computes another function. Where tokens are routed to experts, float32's rounding may decide
    a near tie differently and change everything after it: half of the tokens must agree there, elsewhere all.
    """
    errors = (found - reference).abs().amax(dim=-1) / reference.std().clamp_min(1e-6)
    experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    worst = (errors.median() if experts else errors.max()).item()
    if not worst < SAME:
        first = int((~(errors < SAME)).nonzero()[0, 0])
        raise UnsupportedModelError(
            "a feature that its configuration does not name",
            f"in float32 its logits differ from transformers' by {worst:.2g} standard deviations, first after "
            f"{first + 1} tokens",
        )


def _check_rounding(found: Tensor, reference: Tensor, natural: float, dtype: torch.dtype) -> None:
    """Refuse errors that rounding does not explain."""
    name = _name(dtype)
    error = _error(_finite(found, dtype), reference)
    _log.info("rounding to %s: error %.3f, transformers' own %.3f standard deviations", name, error, natural)
    if not error < max(SMALL, FACTOR * natural):
        raise UnsupportedModelError(
            "a feature that its configuration does not name",
            f"in {name} its logits err by {error:.2g} standard deviations, transformers' by {natural:.2g}",
        )


def _attend_once(inner: Any, tokens: Tensor, positions: Tensor, longest: int) -> tuple[ProbeContext, Tensor, bool]:
    """The attention calls of one run, the logits, and whether rotations were deferred, which happens if it changes
    nothing.
    """
    rotary = can_put_off(inner)
    while True:
        probe = ProbeContext(longest)
        try:
            with attending(probe), putting_off(rotary, checked=True):
                return probe, logits_of(inner, tokens, positions, positions), rotary
        except RotaryError as error:
            if not rotary:
                raise
            _log.info("rotary embedding is left to the model: %s", error)
            rotary = False
