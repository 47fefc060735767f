"""The gate of a SiLU-gated MLP, over the merged product of its gate and up weights."""
