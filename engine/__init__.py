"""Troop's inference server: paged, prefix-shared and OpenAI-compatible. Imports `kernels`, never `bot`."""
