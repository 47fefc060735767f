"""The model: a `transformers` decoder with our attention, merged linears and a paged cache."""

import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoConfig
from transformers.distributed import DistributedConfig

from engine.choices import USUAL, WeightNumbers
from engine.errors import LoadError, UnsupportedModelError, one_line
from engine.model.attention import NAME, PagedContext, attending
from engine.model.backends import SparseWork, Work, choose
from engine.model.cache_scales import cache_dtype, choose_scales
from engine.model.cache_shape import CacheShape
from engine.model.causal_half import is_causal_half
from engine.model.dequantize import Target, check_plain, dequantized, one_by_one, tell_memory
from engine.model.dtypes import resolve_dtype
from engine.model.entries import Closed, EntryPool, StepEntries
from engine.model.experts import compute_alike, use_kernels_for_experts
from engine.model.features import check_config, check_kind, context_length
from engine.model.fused_ops import ops_for
from engine.model.gate import logits_of, pass_gate
from engine.model.memory import zeros
from engine.model.packed_weights import pack_linears
from engine.model.positions import hand_positions_in
from engine.model.quantization_config import method_of
from engine.model.quantize import check_checkpoint, quantize
from engine.model.quantized_linear import kept_kinds, settle, use_kernels
from engine.model.rotary import pays, putting_off
from engine.model.shards import check_split, localize, plan_of
from engine.model.states import Rows, StatePool, StepStates, keeping
from engine.model.stored import Progress, open_weights
from engine.model.text_half import NAMES, decoder_class, text_half
from kernels.kv_store.reference import Scales, bits, copy_slots
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.reach import Reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepInput:
    """One step's packed batch."""

    tokens: Tensor  # [rows] int64
    positions: Tensor  # [rows] int64
    slots: Tensor  # [rows] int64, where keys and values go in the cache
    sampled: Tensor  # [sampled] int64, rows whose logits are wanted
    works: tuple[Work | SparseWork, ...]  # of each of `Model.reaches`
    states: tuple[Rows, ...] = ()  # of the texts in the batch, where layers have states
    own: tuple[Tensor, ...] = ()  # as `slots`, in the cache of each of `Model.windows`
    closed: tuple[Closed, ...] = ()  # of each of `Model.rates`


class Model:
    """A loaded model without its cache; `allocate` gives it one. One thread runs it."""

    def __init__(
        self,
        inner: Any,
        defaults: dict[str, Any] | None = None,
        longest: int | None = None,
        quantization: str = "none",
        cache: str = "auto",
        folder: str | None = None,
    ) -> None:
        """Prepare a `transformers` causal language model that was loaded with attention `troop_tree`.

        Args:
            inner: the model, on its device and in its dtype; changed in place.
            defaults: contents of `generation_config.json`.
            longest: limit of the context in tokens, where it is shorter than the model's own.
            quantization: of the linears' weights, see `engine.model.quantize`.
            cache: dtype of keys and values, see `engine.model.cache_scales`.
            folder: of the checkpoint, which may have scales for them.

        Raises:
            UnsupportedModelError: it uses something that this engine does not implement, or its output differs from
                that with `transformers`' own attention.
        """
        self._inner = inner.eval().requires_grad_(False)
        self.config = inner.config
        self.defaults = defaults or {}
        self.device: torch.device = next(inner.parameters()).device
        self.dtype: torch.dtype = next(inner.parameters()).dtype
        limits = (context_length(self.config), longest, hand_positions_in(inner))
        self.context_length = min(limit for limit in limits if limit)
        check_config(self.config, self.context_length)
        self.vocabulary = int(inner.get_output_embeddings().out_features)
        self.cache_dtype = cache_dtype(cache, self.dtype)
        self._ops = ops_for(self.device, self.dtype)
        passed = pass_gate(self._inner, self.vocabulary, self.context_length)
        self.room = passed.room
        self.reaches = tuple(dict.fromkeys(passed.reaches))  # how far back tokens see, in some layer
        self.layer_reaches = [self.reaches.index(reach) for reach in passed.reaches]  # of each layer
        self.windows = tuple(reach for reach in self.reaches if reach.passes)  # of layers that keep nothing else
        # Of each layer, its cache: that of all tokens, or that of its window, counted from 1.
        self._caches = [self.windows.index(r) + 1 if r in self.windows else 0 for r in passed.reaches]
        self._states, self._index_keys, self._parts = passed.states, passed.index_keys, passed.parts
        self.rates = tuple(dict.fromkeys(part.rate for part in passed.parts))  # of entries for several tokens
        self.shape = self._cache_shape(passed.reaches)
        self.scales: tuple[Scales, ...] = ()  # of each layer
        if self.cache_dtype != self.dtype:
            self.scales = choose_scales(passed.largest, None if self.room.shared else folder)  # those are of full keys
        like = next(inner.parameters())
        deferred = passed.rotary and not self.scales  # no kernel rotates and rounds to 8 bits
        self._rotary = deferred and pays(self._ops, *self.room[:3], like)  # put off until attention
        if quantization != "none":
            quantize(self._inner, quantization)
        use_kernels(self._inner)
        use_kernels_for_experts(self._inner)
        pack_linears(self._inner)
        self.use_attention("auto")
        self.cache = self.index = torch.empty(0)
        self.window_caches: tuple[Tensor, ...] = ()
        self.layers: list[Tensor] = []  # of each layer, its part of a cache: [2, kv_heads, slots, head_dim]
        self.states, self.entries = StatePool(), EntryPool()

    def _cache_shape(self, reaches: Sequence[Reach]) -> CacheShape:
        """What a token leaves in layers with these reaches."""
        heads, kv_heads, head_dim, shared = self.room
        sizes = (kv_heads, head_dim, self.cache_dtype.itemsize, heads, shared)
        state_bytes = sum(state.bytes for state in self._states)
        index_bytes = sum(numbers * dtype.itemsize for numbers, dtype in self._index_keys)
        windows = tuple((reach, reaches.count(reach)) for reach in self.windows)
        return CacheShape(len(reaches), *sizes, state_bytes, index_bytes, windows, self._parts)

    @classmethod
    def load(
        cls,
        path: str,
        dtype: str = "auto",
        device: str = "auto",
        longest: int | None = None,
        split: int = 1,
        cache: str = "auto",
        weights: WeightNumbers = USUAL,
    ) -> Self:
        """Load from a folder or by a name that `transformers` resolves.

        With `split` over 1, this process's shard of it: all processes of the default group load together.

        Raises:
            LoadError: there is nothing that can be loaded.
            UnsupportedModelError: see the constructor.
        """
        place = resolve_device(device)
        config = read_config(path)
        check_config(config, min(longest or context_length(config), context_length(config)))
        if check_checkpoint(config) and weights.quantization != "none":
            raise LoadError(f"{path} is quantised already: leave --quantization {weights.quantization} out")
        if split > 1:
            check_split(config, split, weights.quantization)
        kind = resolve_dtype(dtype, config, place)
        kept = kept_kinds(weights.way, torch.device(place), kind) if method_of(config) and split == 1 else frozenset()
        try:
            inner, told = _weights(path, config, Target(kind, kept), split, place)
        except LoadError:
            raise
        except torch.OutOfMemoryError as error:
            raise LoadError(f"no memory is left for the weights of {path}: {one_line(error)}") from error
        except Exception as error:  # damaged or strange checkpoints fail in any way
            if isinstance(error, KeyError) and error.args == (NAME,):  # it looks attention up in a list of its own
                raise UnsupportedModelError("attention outside of transformers' attention interface") from error
            raise LoadError(f"no model could be loaded from {path}: {one_line(error)}") from error
        if misfits := sorted(told["mismatched_keys"]):
            name, stored, expected = misfits[0]
            raise LoadError(
                f"{name} of {path} has the shape {list(stored)}, where config.json makes it {list(expected)}: are both "
                "of the same model?"
            )
        if missing := sorted(told["missing_keys"]):  # transformers would draw them at random
            raise LoadError(
                f"{path} lacks {len(missing)} of the model's weights, {missing[0]} first: is the checkpoint whole?"
            )
        if left_out := sorted(told["unexpected_keys"]):
            _log.warning("%s: %d of its tensors are no part of the model, %s first", path, len(left_out), left_out[0])
        if split > 1:
            localize(inner)
        else:
            inner = inner.to(place)
        return cls(inner, _generation_defaults(path), longest, weights.quantization, cache, path)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text, from the generation configuration, else from the model's."""
        found = self.defaults.get("eos_token_id", getattr(self.config, "eos_token_id", None))
        if found is None:
            return frozenset()
        return frozenset(found if isinstance(found, list) else [found])

    def use_attention(self, name: str) -> None:
        """Let attention be computed by the backend of that name, see `engine.model.backends.choose`.

        Raises:
            LoadError: it can't be had here.
        """
        shape = self.shape
        heads = Heads(shape.heads, shape.kv_heads, shape.head_dim, shape.item_bytes, shape.shared)
        self.backend = choose(name, self.device, heads, self.cache_dtype)

    def compute_alike(self) -> None:
        """Let a row's numbers not depend on how many others a step has, where that can be told beforehand: for
        `engine.run.invariant`.
        """
        compute_alike(self._inner)

    def allocate(self, slots: int, states: int = 0, windows: Sequence[int] = (), block_size: int = 1) -> None:
        """Make the cache: `[layers, 2, kv_heads, slots, head_dim]`, zeroed, for masked slots must hold finite
        numbers, or `[layers, 1, ...]` where keys and values share theirs; the same of layers with each of the
        `windows`, with so many slots; that of indexers' keys, `[indexers, 1, 1, slots, dim]`; those of compressors,
        for blocks of `block_size` tokens; and a pool of `states` slots for recurrent states.
        """
        self.states = StatePool()
        self.states = StatePool.of(self._states, states, self.device)
        self.cache = self.index = torch.empty(0)  # the old ones are freed before new ones are made
        self.window_caches, self.layers = (), []
        caches, shape = [], self.shape
        for number, count in enumerate((slots, *windows)):
            sizes = (self._caches.count(number), shape.planes, shape.kv_heads, count, shape.head_dim)
            caches.append(zeros(sizes, self.cache_dtype, self.device))
        self.cache, self.window_caches = caches[0], tuple(caches[1:])
        parts = [iter(cache.unbind()) for cache in caches]
        self.layers = [next(parts[number]) for number in self._caches]
        for dim, dtype in self._index_keys[:1]:  # all are alike
            self.index = zeros((len(self._index_keys), 1, 1, slots, dim), dtype, self.device)
        self.entries = EntryPool()
        self.entries = EntryPool.of(self._parts, (slots, *windows), block_size, self.device)

    @property
    def cache_bytes(self) -> int:
        """Memory of the cache."""
        return self.entries.nbytes + sum(each.nbytes for each in (self.cache, self.index, *self.window_caches))

    @torch.inference_mode()
    def forward(self, step: StepInput, out: Tensor | None = None) -> Tensor:
        """Logits of the sampled rows, `[sampled, vocabulary]` float32. Stores the keys and values of all rows.

        With `out`, of that shape and dtype, they are written there.
        """
        how = (self.layer_reaches, self.backend, self._ops, self.scales)
        entries = None
        if self.rates:
            kept = dict(zip(self.rates, step.closed, strict=True))
            at = step.own[0] if step.own else step.slots
            entries = StepEntries(at, kept.__getitem__, self.entries.numbers, self.entries.entries)
        context = PagedContext(
            self.layers, self.slots_of_layers(step), step.works, *how, self.index, step.slots, entries
        )
        states = StepStates(self.states, step.states) if self._states else None
        with attending(context, self.room), putting_off(self._rotary), keeping(states):
            return self.run(step.tokens, step.positions, step.sampled, out)

    def cache_of(self, reach: Reach) -> Tensor:
        """The cache of the layers with this reach."""
        return self.window_caches[self.windows.index(reach)] if reach in self.windows else self.cache

    def slots_of_layers(self, step: StepInput) -> list[Tensor]:
        """Where each layer stores the keys and values of a step's rows."""
        caches = (step.slots, *step.own)
        return [caches[number] for number in self._caches]

    @torch.inference_mode()
    def copy(self, source: list[int], target: list[int]) -> None:
        """Copy cache slots, for a block that two branches continue differently."""
        index = torch.tensor([source, target], device=self.device)
        for cache in (self.cache, self.index):
            if cache.numel():
                copy_slots(cache, index[0], index[1])
        self.entries.copy(index)
        if not self.window_caches:
            self.entries.copy_numbers(index)

    @torch.inference_mode()
    def copy_window(self, window: int, source: list[int], target: list[int]) -> None:
        """The same in the cache of one of `windows`."""
        index = torch.tensor([source, target], device=self.device)
        copy_slots(self.window_caches[window], index[0], index[1])
        if not window:
            self.entries.copy_numbers(index)

    @torch.inference_mode()
    def copy_states(self, source: list[int], target: list[int]) -> None:
        """Copy slots of recurrent states; all are read before one is written."""
        self.states.copy(source, target)

    @torch.inference_mode()
    def scrub(self, slots: list[int], own: Sequence[list[int]] = ()) -> None:
        """Zero cache slots that may hold numbers which are not finite, and those of each of `windows`."""
        caches = zip((self.cache, self.index, *self.window_caches), (slots, slots, *own), strict=False)
        for cache, some in caches:
            if cache.numel() and some:
                bits(cache)[..., torch.tensor(some, device=self.device), :] = 0
        self.entries.scrub(slots, own[0] if own else slots)

    def close(self) -> None:
        """Release what outlives a step: other processes, if there are any."""

    def run(self, tokens: Tensor, positions: Tensor, wanted: Tensor, out: Tensor | None = None) -> Tensor:
        """The forward pass alone, inside `engine.model.attention.attending`: logits of the `wanted` rows, float32."""
        return logits_of(self._inner, tokens, positions, wanted, out)


def _weights(path: str, config: Any, target: Target, split: int, place: str) -> tuple[Any, dict[str, Any]]:
    """A model with its weights, and what `transformers` says about loading it; see `Model.load`."""
    kind = decoder_class(config)
    if kind is None:
        raise UnsupportedModelError(f"{config.model_type}, a kind without a causal language model")
    how: dict[str, Any] = {"config": config, "dtype": target.dtype, "attn_implementation": NAME}
    how |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # `Model.load` tells which do not fit
    how |= {"key_mapping": None if is_causal_half(kind) else NAMES}
    if split > 1:
        how["distributed_config"] = DistributedConfig(tp_size=split)
        config.base_model_tp_plan = plan_of(config)
    elif find_spec("accelerate"):  # `transformers` puts weights on a device as it reads them, by that package
        how["device_map"] = place
    method, progress = method_of(config), Progress(Path(path).name)
    by_torchao = check_checkpoint(config)  # `transformers` needs the metadata of these files
    stored = {} if by_torchao else open_weights(Path(path), progress)
    read = dequantized(stored, config, target) if method else stored
    check_plain(read)
    if stored:
        how["state_dict"] = read
    if method:
        del config.quantization_config
    with one_by_one() if method else nullcontext():
        found: tuple[Any, dict[str, Any]] = kind.from_pretrained(None if stored else path, **how)
    if stored:
        progress.finish()
    if method:
        settle(found[0])
        tell_memory(Path(path).name, method, found[0], read, stored)
    return found


def resolve_device(asked: str) -> str:
    """The kind of device that `auto` means here."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def read_config(path: str) -> Any:
    """The `transformers` configuration in a folder or under a name: of the text half, where there is another.

    Raises:
        LoadError: there is none.
        UnsupportedModelError: it is of a kind that reads no text alone.
    """
    try:
        found = AutoConfig.from_pretrained(path)
        check_kind(found.model_type)
        return text_half(found)
    except LoadError:
        raise
    except Exception as error:  # a damaged or strange file fails in any way
        raise LoadError(f"no model could be loaded from {path}: {one_line(error)}") from error


def _generation_defaults(path: str) -> dict[str, Any]:
    """`generation_config.json` as written, without defaults."""
    file = Path(path) / "generation_config.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text())
    return found if isinstance(found, dict) else {}
