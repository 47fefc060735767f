"""Troop's inference server: paged, prefix-shared and OpenAI-compatible. Imports `kernels`, never `bot`."""

import logging

# At import, and for other devices than this one: what torchao cannot load, and of what torch.compile disapproves in it.
for _noisy in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
