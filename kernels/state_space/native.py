"""A selective state space on a CPU, in C. Signature as in `kernels.state_space.reference`, which is used where the
kernels are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.places import Places
from kernels.state_space import reference
from kernels.state_space.reference import Token


class _Space(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("amount", "time", "rate", "key", "query", "slots", "states", "out")),
        *((name, ctypes.c_int64) for name in ("texts", "heads", "groups", "values", "width", "alike", "kept")),
        ("pool", native.Pool),
    ]


def advance(token: Token, places: Places) -> Tensor:
    """See the reference."""
    call = native.function("state_space", _Space)
    if call is None:
        return reference.advance(token, places)
    reference.check(token, places)
    states, slots, kept = places
    texts, heads, values = token.value.shape
    time = reference.passed(token)
    parts = (token.value.float() * time, time, token.rate, token.key, token.query)
    inputs = [x.float().contiguous() for x in parts]
    slots = slots.contiguous()
    out = torch.empty(texts, heads, values)
    call(
        _Space(
            *(x.data_ptr() for x in (*inputs, slots, states, out)),
            *(texts, heads, token.key.shape[1], values, states.shape[-1]),
            *(token.alike, kept),
            native.pool(),
        )
    )
    return reference.finished(token, out)
