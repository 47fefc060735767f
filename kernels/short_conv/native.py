"""A short convolution in bfloat16 on a CPU, in C. Signature as in `kernels.short_conv.reference`, which is used for
other dtypes and numbers of taps, and where the kernels are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.places import Places
from kernels.short_conv import reference
from kernels.short_conv.reference import Input

TAPS = 4  # and inputs that a state holds


class _Conv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "slots", "states", "out")),
        *((name, ctypes.c_int64) for name in ("texts", "features", "silu", "kept")),
        ("pool", native.Pool),
    ]


def advance(given: Input, places: Places) -> Tensor:
    """See the reference."""
    call = native.function("short_conv", _Conv)
    x, weight, bias, silu = given
    tensors = [x, weight, places.states, *([] if bias is None else [bias])]
    fits = {TAPS} == {weight.shape[-1], places.states.shape[-1]} and x.shape[-1] % 16 == 0
    if call is None or not fits or {each.dtype for each in tensors} != {torch.bfloat16}:
        return reference.advance(given, places)
    reference.check(given, places)
    x, weight, slots = x.contiguous(), weight.contiguous(), places.slots.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype)
    call(
        _Conv(
            x.data_ptr(),
            weight.data_ptr(),
            None if bias is None else bias.data_ptr(),
            *(each.data_ptr() for each in (slots, places.states, out)),
            *(*x.shape, silu, places.kept),
            native.pool(),
        )
    )
    return out
