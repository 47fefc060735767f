"""Attention and fused operations. Imports neither `bot` nor `engine`."""
