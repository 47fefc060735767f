"""Troop's inference server: paged, prefix-shared and OpenAI-compatible. Imports `kernels`, never `bot`."""

import logging

# Warnings at import about other devices: what torchao cannot load, and what torch.compile finds unsupported in it.
for _noisy in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
