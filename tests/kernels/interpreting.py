"""Triton's interpreter for this process, whichever module imported triton first.

`@triton.jit` asks for the mode when it decorates, so that triton's own library (`tl.sum`, `tl.cdiv`) is for the mode in
which triton was imported; and `transformers` imports it on its own. `interpret` makes both agree. The environment is
left alone: child processes run as they would anyway.

The interpreter computes with numpy. Its `tl.dot` is wrong for bfloat16, which is float32 and float16's business here.
"""

import inspect
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
    _look_once()
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


def _look_once() -> None:
    """Triton looks through its whole language for what to patch at each call of a function of the device, and makes a
    table of types for each number: both are remembered."""
    if hasattr(interpreter, "looked_once"):
        return
    interpreter.looked_once = True
    builtins: dict[Any, list[tuple[str, Any]]] = {}
    types: dict[str, Any] = {}
    np_dtype = interpreter._get_np_dtype

    def patch(package: Any, builder: Any, scope: Any) -> None:
        if package not in builtins:
            members = inspect.getmembers(package)
            builtins[package] = [(name, member) for name, member in members if triton.language.core.is_builtin(member)]
        for name, member in builtins[package]:
            if getattr(package, name) is member:  # not patched by a caller
                interpreter._patch_attr(package, name, member, builder, scope)

    def np_dtype_once(kind: Any) -> Any:
        if type(kind) is not triton.language.dtype:
            return np_dtype(kind)
        if kind.name not in types:
            types[kind.name] = np_dtype(kind)
        return types[kind.name]

    interpreter._patch_builtin, interpreter._get_np_dtype = patch, np_dtype_once


def _twin(function: Any, known: dict[int, InterpretedFunction]) -> InterpretedFunction:
    if id(function) not in known:
        known[id(function)] = InterpretedFunction(function.fn)
    return known[id(function)]


def _method(function: InterpretedFunction) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call
