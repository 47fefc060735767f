"""The gated delta rule on a CPU, in C. Signature as in `kernels.delta_rule.reference`, which is used where the kernels
are not available.
"""

import ctypes

import torch
from torch import Tensor

from kernels import native
from kernels.delta_rule import reference
from kernels.delta_rule.reference import Token
from kernels.places import Places

LONGEST = 512  # numbers of a key


class _Delta(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "decay", "beta", "slots", "states", "out")),
        *((name, ctypes.c_int64) for name in ("texts", "heads", "key_heads", "width", "values")),
        *((name, ctypes.c_int64) for name in ("each", "normed", "kept")),
        ("pool", native.Pool),
    ]


def advance(token: Token, places: Places) -> Tensor:
    """See the reference."""
    call = native.function("delta_rule", _Delta)
    texts, key_heads, width = token.query.shape
    if call is None or width > LONGEST:
        return reference.advance(token, places)
    reference.check(token, places)
    states = places.states
    heads, values = token.value.shape[1:]
    inputs = [x.float().contiguous() for x in token[:5]]
    slots = places.slots.contiguous()
    out = torch.empty(texts, heads, values)
    call(
        _Delta(
            *(x.data_ptr() for x in (*inputs, slots, states, out)),
            *(texts, heads, key_heads, width, values),
            *(token.decay.ndim == 3, token.normed, places.kept),
            native.pool(),
        )
    )
    return out.to(token.query.dtype)
