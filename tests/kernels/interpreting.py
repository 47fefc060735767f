"""Triton's interpreter for this process, whichever module imported triton first.

`@triton.jit` asks for the mode when it decorates, so that triton's own library (`tl.sum`, `tl.cdiv`) is for the mode in
which triton was imported; and `transformers` imports it on its own. `interpret` makes both agree. The environment is
left alone: child processes run as they would anyway.

The interpreter computes with numpy. Its `tl.dot` is wrong for bfloat16, which is float32 and float16's business here.
"""

import sys
from typing import Any

import pytest
import torch
import triton
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]

# On a GPU the time is for what only a GPU tells, and registers differ from one version of Triton to the next.
COMPILED_HERE = pytest.mark.skipif(DEVICE == "cuda", reason="what is compiled for a GPU can be seen without one")


def interpret() -> bool:
    """Switch this process to the interpreter unless there is a GPU; whether it is on. May be called again.

    Kernels of this project that were imported before are switched too, under the names that their modules give them.
    """
    if DEVICE == "cuda":
        return False
    triton.knobs.propagate_env = False  # the knob would otherwise write to the environment
    triton.knobs.runtime.interpret = True
    triton.knobs.propagate_env = True
    _let_arrays_be_bounds()
    known: dict[int, InterpretedFunction] = {}  # one twin for each function: the interpreter compares identities
    for name, module in list(sys.modules.items()):
        if name.startswith(("triton.language", "kernels.", "tests.kernels.")):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    setattr(module, attribute, _twin(value, known))
    for attribute, value in list(vars(triton.language.tensor).items()):
        if isinstance(value, JITFunction):
            setattr(triton.language.tensor, attribute, _method(_twin(value, known)))
    return True


def _let_arrays_be_bounds() -> None:
    """Triton 3.6 makes a loop's bound of an array of one number by `int`, which numpy refuses since 2.4."""
    patch = interpreter._patch_lang_tensor
    if getattr(patch, "bounds", False):
        return

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patched.bounds = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patched


def _twin(function: Any, known: dict[int, InterpretedFunction]) -> InterpretedFunction:
    if id(function) not in known:
        known[id(function)] = InterpretedFunction(function.fn)
    return known[id(function)]


def _method(function: InterpretedFunction) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call
