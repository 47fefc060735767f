"""Functions of recurrent layers that `transformers` takes from other packages where these are installed:
flash-linear-attention, causal-conv1d and mamba-ssm.

`transformers` binds each of them when it is imported, whatever the device, to kernels that run on GPUs alone and that
no trial here has seen. So both are kept: torch's own, by which all is compared, and the package's, which computes a
layer where the gate (`engine.model.state_trials`) found that it agrees with torch's. A step over states that stay in
their pool is neither's: see `engine.model.in_pool`.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from engine.model.in_pool import STEPS, InPool

_chosen = threading.local()  # several engines may live in one process, each in its own thread

DISTRIBUTIONS = {"fla": "flash-linear-attention", "causal_conv1d": "causal-conv1d", "mamba_ssm": "mamba-ssm"}


class Either:
    """A function of a file of `transformers` that a package may compute."""

    def __init__(self, bound: Callable[..., Any], own: Callable[..., Any], package: str, installed: bool) -> None:
        """
        Args:
            bound: as `transformers` has it.
            own: in torch.
            package: that computes it where it is installed.
            installed: that it is.
        """
        self.package = package
        self.installed = installed
        self._bound, self._own = bound, own
        takes = inspect.signature(own).parameters
        self.step = next((step for name, step in STEPS.items() if name in takes), None)  # of states in their pool
        self._names = None if any(each.kind is each.VAR_KEYWORD for each in takes.values()) else set(takes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.step and any(isinstance(given, InPool) for given in (*args, *kwargs.values())):
            return self.step.run(*args, **kwargs)
        if self.installed and getattr(_chosen, "packages", False):
            return self._bound(*args, **kwargs)
        if self._names is not None:
            kwargs = {name: value for name, value in kwargs.items() if name in self._names}
        return self._own(*args, **kwargs)


@contextmanager
def by_packages(active: bool) -> Iterator[None]:
    """Inside, this thread's functions are the packages', if `active` and where these are installed."""
    before = getattr(_chosen, "packages", False)
    _chosen.packages = active
    try:
        yield
    finally:
        _chosen.packages = before


def keep_both(module: nn.Module) -> list[Either]:
    """Let the functions that the code of a module's class may take from packages be told by `by_packages`; return
    them, none where it has none.
    """
    home = sys.modules[type(module).__module__]
    for name, function in list(vars(home).items()):
        if inspect.isfunction(function) and "is_new_implementation" in function.__code__.co_freevars:
            bound = inspect.getclosurevars(function).nonlocals
            either = Either(function, bound["torch_function"], bound["package"], bound["is_new_implementation"])
            setattr(home, name, either)
    return [each for each in vars(home).values() if isinstance(each, Either)]
