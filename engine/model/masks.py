"""Which tokens every layer lets a token see, found from the masks that the model's own code builds.

The model runs over a text of thousands of tokens with every product left out, so that it takes no time, and with an
attention that only looks at its mask. A mask of all tokens before, of a window or of chunks becomes the layer's
`Reach`; other masks are refused. Windows longer than that text are found by asking the function that the mask was made
from about single tokens of the longest text.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from engine.errors import UnsupportedModelError
from engine.model.chosen import Scores, unpacked
from engine.model.entries import HollowEntries
from kernels.tree_attention.reach import FULL, Reach

HOLLOW = "troop_hollow"  # the name of that attention
SAMPLES = 16  # tokens of the longest text that are asked about, beside its last

Lowest = Callable[[int], int]  # the first token that a token sees

_ELEMENTWISE = {
    torch.nn.functional.silu,
    torch.nn.functional.gelu,
    torch.mul,
    Tensor.mul,
    Tensor.__mul__,
}


class NoProducts(TorchFunctionMode):
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


class Masks:
    """The masks of one run, each looked at once."""

    def __init__(self, longest: int) -> None:
        """
        Args:
            longest: tokens in the longest text that will be served.
        """
        self.reaches: list[Reach] = []  # of each layer, in the order of their calls
        self._longest = longest
        self._seen: list[tuple[Tensor, Reach]] = []
        self._made: list[tuple[Tensor, Any]] = []  # masks, and the functions that they were made from

    def made(self, mask: Tensor | None, function: Any) -> None:
        """Remember where a mask comes from."""
        if mask is not None and function is not None:
            self._made.append((mask, function))

    def look_at(self, mask: Tensor | None, most: int = 0) -> None:
        """Note what a layer's mask lets a token see, and with `most`, that so many of these are chosen for it.

        Raises:
            UnsupportedModelError: it is none that the engine knows.
        """
        found = next((reach for one, reach in self._seen if one is mask), None)
        if found is None:
            found = FULL if mask is None else self._reach(mask)
            if mask is not None:
                self._seen.append((mask, found))
        self.reaches.append(found._replace(most=most) if most < self._longest else found)

    def _reach(self, mask: Tensor) -> Reach:
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        length = allowed.shape[-1]
        if allowed.shape[-2] != length:
            raise UnsupportedModelError("attention to tokens of another text")
        reach = guess(lambda row: int(allowed[0, 0, row].to(torch.uint8).argmax()), length)
        rows, columns = (torch.arange(length, device=mask.device)[at] for at in ((slice(None), None), (None,)))
        floors = reach.floors(range(length))
        lowest = torch.zeros(length) if floors is None else torch.from_numpy(floors)
        expected = (columns <= rows) & (columns >= lowest.to(mask.device)[:, None])
        if not torch.equal(allowed, expected.expand_as(allowed)):
            last = int(allowed[0, 0, -1].sum())
            raise UnsupportedModelError(
                "attention to other tokens than all those before, a window or a chunk of them",
                f"the last of {length} tokens sees {last}: limit the context to what each token sees (--max-model-len)",
            )
        function = next((function for one, function in self._made if one is mask), None)
        if reach == FULL and function is not None and self._longest > length:
            return _asked(function, self._longest)
        return reach


def guess(lowest: Lowest, length: int) -> Reach:
    """The reach that fits the last tokens of a text. Check it on others."""
    last = lowest(length - 1)
    if last <= 0:
        return FULL
    if lowest(length - 2) == last - 1:
        return Reach(window=length - last)
    return Reach(chunk=last - lowest(last - 1))


def _asked(function: Any, longest: int) -> Reach:
    """The reach by the function of a mask, of those that can be asked about longer texts than the mask's."""
    columns = torch.arange(longest)

    def seen(row: int) -> Tensor:
        zero = torch.zeros((), dtype=torch.int64)
        found: Tensor = function(zero, zero, torch.tensor(row), columns)
        return found.expand(longest)

    try:
        reach = guess(lambda row: int(seen(row).to(torch.uint8).argmax()), longest)
        rows = [longest - 1, *torch.linspace(0, longest - 1, SAMPLES).long().tolist()]
        floors = reach.floors(rows)
        for index, row in enumerate(rows):
            lowest = 0 if floors is None else int(floors[index])
            if not torch.equal(seen(row), (columns <= row) & (columns >= lowest)):
                raise UnsupportedModelError(
                    "attention to other tokens than all those before, a window or a chunk of them",
                    f"token {row} sees {int(seen(row).sum())}: limit the context (--max-model-len)",
                )
    except (IndexError, TypeError, RuntimeError):  # it knows the tokens of its own text alone
        return FULL
    return reach


_looking = threading.local()  # several engines may live in one process, each in its own thread


@contextmanager
def looking(longest: int) -> Iterator[Masks]:
    """Inside, this thread's hollow attention notes the masks."""
    _looking.masks = Masks(longest)
    try:
        yield _looking.masks
    finally:
        _looking.masks = None


class HollowChoices:
    """A context that chooses nothing in particular."""

    def choose(self, index: int, scores: Scores, most: int) -> Tensor:
        """See `engine.model.chosen.Chooser`."""
        return scores.keys.new_zeros((), dtype=torch.int32).expand(len(scores.keys), most)

    def entries_of(self, hidden: Tensor) -> HollowEntries:
        """See `engine.model.compressors`."""
        return HollowEntries()


def _hollow(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    masks: Masks | None = getattr(_looking, "masks", None)
    if masks is not None:
        mask, chosen = unpacked(attention_mask, kwargs)
        masks.look_at(mask, 0 if chosen is None else chosen.shape[-1])
    return value.new_zeros((query.shape[0], query.shape[2], query.shape[1], value.shape[-1])), None


def _whole_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    mask: Tensor | None = sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": False}))
    masks: Masks | None = getattr(_looking, "masks", None)
    if masks is not None:
        masks.made(mask, kwargs.get("mask_function"))
    return mask


AttentionInterface.register(HOLLOW, _hollow)
AttentionMaskInterface.register(HOLLOW, _whole_mask)
