"""What the code of a model's modules does, read from it."""

import functools
import inspect
import re
from typing import Any

from torch import nn


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
