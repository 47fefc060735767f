"""What the code of a model's modules does, read from it."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

F = TypeVar("F")


@functools.cache
def names_any(kind: Any, names: frozenset[str]) -> bool:
    """Whether a method of a class of modules names one of these: whether it calls it, most often."""
    for each in kind.__mro__:
        if each is nn.Module:
            break
        for value in vars(each).values():
            code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
            if code is not None and names & set(code.co_names):
                return True
    return False


def leave_read_weights(module: nn.Module) -> None:
    """Mark the linears of a module whose weights its own code reads: it needs them as they are."""
    try:
        names = set(re.findall(r"self\.(\w+)\.weight", inspect.getsource(type(module))))
    except OSError:  # there is no source
        names = {name for name, _ in module.named_children()}
    for name in names:
        linear = getattr(module, name, None)
        if isinstance(linear, nn.Linear):
            linear.plain = True  # type: ignore[assignment]


def numbered(
    model: nn.Module, kind: type[F], belongs: Callable[[nn.Module], bool], make: Callable[[nn.Module, int], F]
) -> list[F]:
    """The forward functions of a kind in `model`, in order.

    A module that `belongs`, and has none of that kind yet, is given one, made of itself and its number. What is inside
    of such a module goes with it.
    """
    found: list[F] = []
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module in inside or not belongs(module):
            continue
        inside.update(module.modules())
        own: Any = module.forward
        if not isinstance(own, kind):
            vars(module)["forward"] = own = make(module, len(found))
        found.append(own)
    return found
