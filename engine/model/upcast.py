"""A model of 16-bit weights computed in float32, one module's weights at a time.

A reference must be better than what it judges. A second copy of the weights in float32 would take twice the memory of
the model, which a device that just holds the model does not have; so each module's weights are widened when it is
called, and dropped when it returns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.indexers import is_indexer
from engine.model.latents import latents_of
from engine.model.states import is_recurrent

_Saved = dict[str, Any]


@contextmanager
def float32_weights(model: nn.Module) -> Iterator[None]:
    """Inside, modules compute with float32 copies of their 16-bit weights, and with float32 activations.

    Holds one module's copies at a time; plain embeddings are not widened, only what is looked up in them. Modules whose
    weights are not plain tensors (quantised ones) compute as before, with their input rounded to their dtype and their
    output widened.
    """
    open_calls: list[list[tuple[nn.Module, _Saved]]] = []

    def widen(module: nn.Module, arguments: Any) -> None:
        inside = [each for each in module.modules() if _widens(each)] if _reads(module) else [module]
        widened = []
        for each in inside:
            saved: _Saved = {}
            for name, tensor in _own(each):
                saved[name] = tensor
                wide = tensor.detach().float()
                if name in each._parameters:
                    each._parameters[name] = nn.Parameter(wide, requires_grad=False)
                else:
                    each._buffers[name] = wide
            widened.append((each, saved))
        open_calls.append(widened)

    def narrow(module: nn.Module, arguments: Any, output: Any) -> None:
        for each, saved in open_calls.pop():
            _restore(each, saved)

    handles = []
    for module in model.modules():
        if not _widens(module):
            handles.append(module.register_forward_pre_hook(_rounded))
            handles.append(module.register_forward_hook(_widened))
        elif _reads(module) or any(True for _ in _own(module)):
            handles.append(module.register_forward_pre_hook(widen))
            handles.append(module.register_forward_hook(narrow))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, saved in (each for widened in reversed(open_calls) for each in widened):  # calls that raised
            _restore(module, saved)


def _widens(module: nn.Module) -> bool:
    """Whether float32 copies of a module's weights can be made, and are worth their memory."""
    return type(module) is not nn.Embedding and _opaque(module) is None


def _reads(module: nn.Module) -> bool:
    """Whether a module reads its children's weights, or their dtype, beside calling them."""
    return is_recurrent(module) or is_indexer(module) or latents_of(module) is not None


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The module's own 16-bit tensors, by name."""
    for store in (module._parameters, module._buffers):
        for name, tensor in store.items():
            if tensor is not None and tensor.dtype in (torch.bfloat16, torch.float16):
                yield name, tensor


def _opaque(module: nn.Module) -> Tensor | None:
    """A weight of the module that is more than a tensor of numbers."""
    for tensor in module._parameters.values():
        if tensor is not None and type(tensor) not in (nn.Parameter, Tensor):
            return tensor
    return None


def _restore(module: nn.Module, saved: _Saved) -> None:
    for name, tensor in saved.items():
        (module._parameters if name in module._parameters else module._buffers)[name] = tensor


def _rounded(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    weight = _opaque(module)
    if weight is None:
        return arguments
    return tuple(x.to(weight.dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments)


def _widened(module: nn.Module, arguments: Any, output: Any) -> Any:
    return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output
