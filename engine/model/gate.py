"""The gate at load: a model is served only if the engine computes what `transformers` computes.

The configuration is checked first (`engine.model.features`), then the arguments of the attention function
(`engine.model.attention`). Neither shows undeclared features, so four trials on random tokens follow:

1. **Masks** (`engine.model.masks`). The model's own code builds its attention masks for a text of thousands of tokens:
   each must let a token see all tokens before it, a window or a chunk of them. Attention in both directions and other
   patterns show here.
2. **Function.** All layers over hundreds of tokens (as many as a few seconds allow), in float32 whatever the weights'
   dtype, with `transformers`' eager attention and with ours: the same to within float32's rounding. Biases and
   patterns inside of the attention modules show here.
3. **Packing.** Two texts in one pass, as the engine runs them: each as alone. Shifts along the tokens show here. Layers
   with a state (`engine.model.states`) must also go on where a text ended.
4. **Rounding.** The model as it will run, merged and fused, in its own dtype: its error against the float32 logits is
   not larger than that of `transformers` in that dtype.

A reference must be better than what it judges: in bfloat16 the logits of a real model differ from float32 by half a
standard deviation here and there, with `transformers`' eager attention by more than one.
"""

import functools
import inspect
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.errors import LoadError, UnsupportedModelError
from engine.model.attention import NAME, ProbeContext, Room, attending
from engine.model.compressors import keep_compressors, parts_of
from engine.model.entries import PartShape
from engine.model.experts import kept_weights
from engine.model.features import field
from engine.model.fuse import fuse, merge_linears
from engine.model.in_pool import advances_for
from engine.model.indexers import Chooses, few_chosen, keep_indexers, masks_for
from engine.model.latents import Latents, keep_latents
from engine.model.masks import HOLLOW, HollowChoices, NoProducts, looking
from engine.model.positions import at_positions
from engine.model.quantized_linear import quantized_linears
from engine.model.rotary import RotaryError, can_put_off, putting_off
from engine.model.shards import alone
from engine.model.state_trials import HollowStates, TrialStates, try_in_pool, try_packages
from engine.model.states import StateShape, keep_states_apart, keeping
from engine.model.upcast import float32_weights
from kernels.tree_attention.reach import Reach

LONGEST_HOLLOW = {"cpu": 4_352, "cuda": 8_448}  # tokens of trial 1: a little more than the windows in use
LONGEST, SHORTEST = 640, 64  # tokens of trial 2
OPERATIONS = {"cpu": 5e11, "cuda": 4e13}  # of one run of trial 2, a few seconds
SCORES = 1 << 28  # numbers in a layer's attention scores, as eager attention stores them
CHOSEN = 4  # indexers choose one token of so many in trial 2
NO_HEADS = (1, 1, 8)  # of attention, where there is none
SAME = 1e-3  # standard deviations of the logits: float32's rounding
# An error this small needs no comparison; one within this factor of `transformers`' own is rounding.
SMALL, FACTOR = 0.01, 1.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passed:
    """What the gate learned about a model."""

    reaches: tuple[Reach, ...]  # of each layer
    room: Room
    rotary: bool  # its rotary embedding can be deferred, see `engine.model.rotary`
    states: tuple[StateShape, ...] = ()  # of its recurrent layers
    largest: tuple[tuple[float, float], ...] = ()  # key and value of each layer's attention, without their signs
    index_keys: tuple[tuple[int, torch.dtype], ...] = ()  # of each indexer: numbers of a token's key, and their dtype
    parts: tuple[PartShape, ...] = ()  # of its compressors


def logits_of(
    inner: Any, tokens: Tensor, positions: Tensor | None, wanted: Tensor, out: Tensor | None = None
) -> Tensor:
    """The forward pass alone: logits of the `wanted` rows, `[wanted, vocabulary]` float32, written to `out` if that is
    given. Without positions, at those that the model assumes.
    """
    given: dict[str, Any] = {"position_ids": None if positions is None else positions[None]}
    if (masks := masks_for(inner.config)) is not None:
        given["attention_mask"] = masks
    chooses = _takes(type(inner), "logits_to_keep")  # type: ignore[arg-type]
    if chooses:
        given["logits_to_keep"] = wanted
    with at_positions(positions):
        logits: Tensor = inner(input_ids=tokens[None], use_cache=False, **given).logits[0]
    found = logits if chooses else logits.index_select(0, wanted)
    return found.float() if out is None else out.copy_(found)


@functools.cache
def _takes(kind: Any, name: str) -> bool:
    """Whether a kind of models takes an argument by name, rather than ignoring it."""
    return name in inspect.signature(kind.forward).parameters


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
        if not hasattr(sys.modules[type(inner).__module__], "ALL_ATTENTION_FUNCTIONS"):
            raise UnsupportedModelError("attention outside of transformers' attention interface") from error
        words = " ".join(str(error).split())[:300]
        raise UnsupportedModelError(
            f"the code of {kind} models", f"its trial run failed with {type(error).__name__}: {words}"
        ) from error
    _log.info("a trial run gave transformers' logits, %.1f s", time.perf_counter() - begin)
    return passed


def _try_all(inner: Any, vocabulary: int, longest: int) -> Passed:
    device, _ = _place(inner)
    compressors = keep_compressors(inner)
    choosing: list[Chooses] = [*keep_indexers(inner), *compressors]
    latents = keep_latents(inner, NAME)
    states = _states_of(inner, vocabulary)
    reaches = _try_masks(inner, vocabulary, longest, HollowStates(states.outputs))
    count = _affordable(inner, device, longest, 2 * max((each.rate.size for each in compressors), default=0))
    tokens = torch.arange(1, count + 1, device=device) * 7919 % vocabulary
    with few_chosen(choosing, count // CHOSEN):  # the trial is shorter than what a real model chooses
        return _try_numbers(inner, tokens, vocabulary, reaches, states, latents)


def _try_numbers(
    inner: Any,
    tokens: Tensor,
    vocabulary: int,
    reaches: Sequence[Reach],
    states: TrialStates,
    latents: Sequence[Latents],
) -> Passed:
    """Trials 2 to 4."""
    _, dtype = _place(inner)
    positions = torch.arange(len(tokens), device=tokens.device)

    def run(implementation: str, count: int = len(tokens)) -> Tensor:
        inner.set_attn_implementation(implementation)
        with attending(ProbeContext(reaches) if implementation == NAME else None):
            return logits_of(inner, tokens[:count], positions[:count], positions[:count])

    exact, natural = dtype == torch.float32, 0.0
    reference = _in_float32(inner, lambda: run("eager"))
    if not torch.isfinite(reference).all():
        raise LoadError("this model's logits are not finite, not even in float32: its weights are damaged")
    if not exact:
        natural = _error(_finite(run("eager"), dtype), reference)
        _check_function(_in_float32(inner, lambda: run(NAME)), reference, inner.config)
    inner.set_attn_implementation(NAME)
    _in_float32(inner, lambda: _try_packed(inner, vocabulary, reaches))
    short = {torch.float32: lambda: _in_float32(inner, lambda: run(NAME, SHORTEST)), dtype: lambda: run(NAME, SHORTEST)}
    try_in_pool(keep_states_apart(inner), advances_for(tokens.device), short)
    if tokens.is_cuda:
        try_packages(keep_states_apart(inner), dtype, lambda: run(NAME))
    merge_linears(inner)
    with alone():
        fuse(inner)
    with keeping(states):
        probe, found, rotary = _attend_once(inner, tokens, positions, reaches)
    if not states.shapes:
        _check_layers(probe, inner.config)
    if exact:
        _check_function(found, reference, inner.config)
    else:
        _check_rounding(found, reference, natural, dtype)
    if len(reaches) != len(probe.shapes):
        raise UnsupportedModelError("attention outside of transformers' attention interface")
    shared = max(each.rank for each in latents) if latents and len(latents) == len(probe.shapes) else 0
    room = Room.over(probe.shapes or [NO_HEADS], shared)
    largest = tuple((key.item(), value.item()) for key, value in probe.largest)
    index_keys = tuple(shape for _, shape in sorted(probe.index_keys.items()))
    parts = parts_of(probe, reaches)
    return Passed(tuple(reaches), room, rotary, tuple(states.shapes.values()), largest, index_keys, parts)


def _states_of(inner: Any, vocabulary: int) -> TrialStates:
    """The recurrent layers' outputs and states, by a first run over a few tokens.

    Raises:
        UnsupportedModelError: one is passed more than once.
    """
    states = TrialStates()
    if keep_states_apart(inner):
        device, _ = _place(inner)
        tokens = torch.arange(8, device=device) % vocabulary
        inner.set_attn_implementation(NAME)
        with attending(ProbeContext()), keeping(states):
            logits_of(inner, tokens, tokens.clone(), tokens[-1:])
        if max(states.calls.values(), default=1) > 1:
            raise UnsupportedModelError("layers with a state that are passed more than once")
    return states


def _check_layers(probe: ProbeContext, config: Any) -> None:
    """Refuse a model some of whose layers do not attend."""
    text = config.get_text_config(decoder=True)
    layers = field(text, "decoder_layers") or field(text, "num_hidden_layers")
    if not probe.shapes:
        raise UnsupportedModelError("attention outside of transformers' attention interface")
    indices = probe.indices - {None}
    if indices and isinstance(layers, int) and len(indices) != layers != len(probe.shapes):
        raise UnsupportedModelError("layers without attention", f"{len(indices)} of {layers} layers attend")


def _try_packed(inner: Any, vocabulary: int, reaches: Sequence[Reach]) -> Tensor:
    """Trial 3: two texts in one pass give what each gives alone.

    Raises:
        UnsupportedModelError: they do not, so tokens see each other outside of attention.
    """
    device, _ = _place(inner)
    texts = [
        torch.arange(first, first + count, device=device) * 7919 % vocabulary for first, count in ((3, 9), (5, 14))
    ]
    places = [torch.arange(len(text), device=device) for text in texts]

    def run(chosen: Sequence[int], places: Sequence[Tensor | None] = places) -> Tensor:
        tokens = torch.cat([texts[at] for at in chosen])
        found = [place for place in (places[at] for at in chosen) if place is not None]
        positions = torch.cat(found) if found else None
        context = ProbeContext(reaches, [len(texts[at]) for at in chosen])
        states = TrialStates(context.lengths, SAME if len(chosen) == 1 else None)
        with attending(context), keeping(states):
            logits = logits_of(inner, tokens, positions, torch.arange(len(tokens), device=device))
        if not context.shapes and not states.shapes:
            raise UnsupportedModelError("attention outside of transformers' attention interface")
        return logits

    with few_chosen([*keep_indexers(inner), *keep_compressors(inner)], len(texts[0]) // 2):
        together, single = run((0, 1)), torch.cat([run((0,)), run((1,))])
        own, other = run((1,), [None, None]), run((1,), [None, places[1].flip(0)])
    if _error(own, single[len(texts[0]) :]) > SAME:
        raise UnsupportedModelError("positions that do not begin at 0")
    if len(set(texts[1].tolist())) > 1 and torch.equal(own, other) and _error(together, single) > SAME:
        raise UnsupportedModelError("positions that it counts itself, from the beginning of a batch")
    errors = (together - single).abs().amax(dim=-1)[len(texts[0]) :] / single.std().clamp_min(1e-6)
    # The first token of a text depends on no other; where experts are chosen, a tie may change some of the rest.
    if not max(errors[0].item(), errors.median().item()) < SAME:
        raise UnsupportedModelError("layers other than attention in which a token depends on those before it")
    return together


def _place(inner: Any) -> tuple[torch.device, torch.dtype]:
    parameter = next(inner.parameters())
    return parameter.device, parameter.dtype


# -- masks ------------------------------------------------------------------------------------------------------------


def _try_masks(inner: Any, vocabulary: int, longest: int, states: HollowStates) -> list[Reach]:
    """Trial 1: the reach of each layer.

    Raises:
        UnsupportedModelError: a mask is none that the engine knows.
    """
    device, _ = _place(inner)
    length = min(longest, LONGEST_HOLLOW.get(device.type, 4_352))
    tokens = torch.arange(length, device=device) % vocabulary
    positions = torch.arange(length, device=device)
    inner.set_attn_implementation(HOLLOW)
    split = (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    )  # sums write into products, unchecked
    with alone(), keeping(states), attending(HollowChoices()):
        try:
            with looking(longest) as masks, NoProducts(stored=split):
                logits_of(inner, tokens, positions, positions[-1:])
        except RuntimeError:  # code that views its products in other shapes, or writes into them
            with looking(longest) as masks, NoProducts(stored=True):
                logits_of(inner, tokens, positions, positions[-1:])
    return masks.reaches


# -- numbers ----------------------------------------------------------------------------------------------------------


def _affordable(inner: Any, device: torch.device, longest: int, least: int) -> int:
    """Tokens of trial 2, `least` of them in any case."""
    weights = _weights(inner)
    heads = int(field(inner.config, "num_attention_heads") or 64)
    time_allows = OPERATIONS.get(device.type, 5e11) / (2 * weights)
    memory_allows = (SCORES / heads) ** 0.5
    return min(longest, max(SHORTEST, least, int(min(LONGEST, time_allows, memory_allows))))


def _weights(inner: Any) -> int:
    """How many there are; those of few bits, which are no parameters, are as many as those that they stand for."""
    count = sum(parameter.numel() for parameter in inner.parameters())
    count += sum(math.prod(linear.packed.shape) for linear in quantized_linears(inner))
    return int(count + sum(math.prod(weight.shape) for weight, _ in kept_weights(inner)))


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
    experts = any(field(config, name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
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


def _attend_once(
    inner: Any, tokens: Tensor, positions: Tensor, reaches: Sequence[Reach]
) -> tuple[ProbeContext, Tensor, bool]:
    """The attention calls of one run, the logits, and whether rotations were deferred, which happens if it changes
    nothing.
    """
    rotary = can_put_off(inner)
    while True:
        probe = ProbeContext(reaches)
        try:
            with attending(probe), putting_off(rotary, checked=True):
                return probe, logits_of(inner, tokens, positions, positions), rotary
        except RotaryError as error:
            if not rotary:
                raise
            _log.info("rotary embedding is left to the model: %s", error)
            rotary = False
