"""Quantised checkpoints: weights are dequantised while they are read, or kept for a kernel.

A model that is dequantised is as large as one that was never quantised, which is told in a warning. It is held once: a
weight is read and dequantised when `transformers`' loader puts it into its parameter.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.errors import LoadError, one_line
from engine.model.experts import kept_weights
from engine.model.formats import FORMATS, Format, Packing
from engine.model.memory import size
from engine.model.quantization_config import method_of, packing_of
from engine.model.quantized import Quantized, Tabled
from engine.model.quantized_linear import Carried, Ways, quantized_linears
from engine.model.stored import Stored

_PLAIN = ("F16", "BF16", "F32", "F64")
_MARKS = tuple(f".{form.ends[0]}" for forms in FORMATS.values() for form in forms if form.whole and not form.common)
ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"  # a switch of `transformers`, read at each load
_log = logging.getLogger(__name__)


class Target(NamedTuple):
    """What weights are read into."""

    dtype: torch.dtype  # of those that are dequantised, and of products with others
    kept: frozenset[str] = frozenset()  # kinds of `engine.model.quantized.Packed` that stay as they are


class Dequantized:
    """A weight that is dequantised, or kept for a kernel, when `transformers`' loader indexes it."""

    __slots__ = ("_dtype", "_form", "_held", "_kept", "_name", "_packing", "_parts")

    def __init__(self, name: str, form: Format, parts: dict[str, Stored], packing: Packing, target: Target) -> None:
        self._name = name
        self._form = form
        self._parts = parts
        self._packing = packing
        self._dtype, self._kept = target
        self._held: Tensor | None = None  # between `get_shape` and the reading that follows it

    def __getitem__(self, index: Any) -> Tensor:
        """The part that `index` names of the plain weight; where all of it is kept, an `engine.model.quantized_linear`
        `Carried`.

        Raises:
            LoadError: a part of it has another shape, or an unknown layout.
        """
        held, self._held = self._held, None
        found = self._read_whole(index is ...) if held is None else held
        return found if index is ... else found[index].clone()  # so that a part does not keep the whole in memory

    def get_shape(self) -> list[int]:
        """Of the plain weight, which is made for it and kept for the next reading: a loader that splits weights over
        processes asks before it reads its part.
        """
        self._held = self._read_whole(False)
        return list(self._held.shape)

    def _read_whole(self, may_stay: bool) -> Tensor:
        parts = {end: part[...] for end, part in self._parts.items()}
        try:
            return self._read(parts, may_stay)
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{end} {list(part.shape)}" for end, part in parts.items())
            raise LoadError(
                f"{self._name} cannot be dequantised from {shapes}: {one_line(error)}; does quantization_config of "
                "config.json describe these files?"
            ) from error

    def _read(self, parts: dict[str, Tensor], may_stay: bool) -> Tensor:
        """In the model's dtype; experts in one tensor are dequantised one by one."""
        kept = self._kept if may_stay else frozenset()
        if self._form.whole:
            read = self._form.read(parts, self._packing)
            packed = read.pack() if kept and isinstance(read, Quantized | Tabled) else None
            if packed is not None:
                experts = f"experts-{packed.kind.partition('-')[0]}" in kept and ".experts." in self._name
                if experts or packed.kind in kept:
                    return Carried(packed, self._dtype, Ways(packed.kind in kept, experts))
            return (read.plain() if isinstance(read, Quantized | Tabled) else read).to(self._dtype)
        if self._form.pack is not None and f"experts-{self._form.kind}" in kept:
            return Carried(self._form.pack(parts), self._dtype, Ways(False, True, turned=True))
        found = torch.empty(0)
        count = len(parts[self._form.ends[0]])
        for expert in range(count):
            one: Any = self._form.read({end: part[expert : expert + 1] for end, part in parts.items()}, self._packing)
            if not expert:
                found = torch.empty(count, *one.shape[1:], dtype=self._dtype)
            found[expert] = one[0]
        return found


def dequantized(stored: dict[str, Stored], config: Any, target: Target) -> dict[str, Stored | Dequantized]:
    """Every weight of a checkpoint by its plain name, none of them read.

    Args:
        stored: of `engine.model.stored.open_weights`; parts of a weight may lie in several files.
        config: of `transformers`, with `quantization_config`.
        target: of what was quantised.

    Raises:
        LoadError: a part of a weight is missing.
    """
    packing = packing_of(config)
    found: dict[str, Stored | Dequantized] = {}
    done: set[str] = set()
    for form in FORMATS[method_of(config)]:
        separator = "." if form.whole else "_"  # MXFP4's parts are named by the weight itself
        mark = separator + form.ends[0]
        for name in stored:
            if not name.endswith(mark) or name in done:
                continue
            base = name.removesuffix(mark)
            named = {end: f"{base}{separator}{end}" for end in form.ends}
            weight = stored.get(named.get("weight", ""))
            if form.common and (weight is None or weight.dtype in _PLAIN):
                continue
            if lacking := [each for end, each in named.items() if end not in form.optional and each not in stored]:
                raise LoadError(f"{lacking[0]} is missing, a part of a quantised weight: is the checkpoint whole?")
            done.update(named.values())
            done.update(f"{base}{separator}{end}" for end in form.unused)
            parts = {end: stored[each] for end, each in named.items() if each in stored}
            whole = f"{base}.{form.whole}" if form.whole else base
            found[whole] = Dequantized(whole, form, parts, packing, target)
    return found | {name: tensor for name, tensor in stored.items() if name not in done}


def check_plain(read: Mapping[str, Stored | Dequantized]) -> None:
    """Refuse weights that would be taken for plain numbers and are not, such as those of a checkpoint that says how it
    is quantised in a file of its own.

    Args:
        read: every weight that is to be loaded.

    Raises:
        LoadError: there is one.
    """
    stored = {name: weight for name, weight in read.items() if isinstance(weight, Stored)}
    plain = {name for name, weight in stored.items() if name.endswith(".weight") and weight.dtype in _PLAIN}
    for name, weight in stored.items():
        coded = name.endswith(".weight") and name not in plain
        alone = f"{name.rpartition('.')[0]}.weight" not in plain  # beside plain numbers a scale is left over
        if coded or (alone and name.endswith(_MARKS)):
            raise LoadError(
                f"{name} ({weight.dtype}) is quantised, and quantization_config of config.json doesn't say how: "
                "load the original checkpoint with --quantization int8, or one in a format of docs/models.md"
            )


@contextmanager
def one_by_one() -> Iterator[None]:
    """Inside, `transformers`' loader reads what a parameter is made of when its turn has come. Its threads, which read
    ahead, would leave holes of the memory that they freed where one parameter is made of many weights (experts).
    """
    before = os.environ.get(ONE_BY_ONE)
    os.environ[ONE_BY_ONE] = "1"
    try:
        yield
    finally:
        os.environ.pop(ONE_BY_ONE)
        if before is not None:
            os.environ[ONE_BY_ONE] = before


def tell_memory(name: str, method: str, model: Any, read: dict[str, Any], stored: dict[str, Stored]) -> None:
    """Warn of what a checkpoint takes that was dequantised, if any of it was.

    Args:
        name: of the checkpoint.
        method: of `method_of`.
        model: of `transformers`, loaded, its linears over kept weights in place.
        read: of `dequantized`.
        stored: its files' tensors.
    """
    weights = sum(isinstance(each, Dequantized) for each in read.values())
    kept, experts = quantized_linears(model), kept_weights(model)
    if experts:
        taken = sum(weight.bytes for weight, _ in experts)
        _log.info("%s: experts are kept as they are: %s in memory", name, size(taken))
    plain = weights - len(kept) - sum(count for _, count in experts)
    if not plain:
        return
    tensors = [*model.parameters(), *(buffer for module in kept for buffer in module.buffers(False))]
    tensors += [part for weight, _ in experts for part in weight if isinstance(part, Tensor)]
    _log.warning(
        "%s: no kernel here multiplies %d of %d %s weights, so they are dequantised: %s in memory, %s in the files",
        name,
        plain,
        weights,
        method,
        size(sum(tensor.nbytes for tensor in tensors)),
        size(sum(tensor.bytes for tensor in stored.values())),
    )
