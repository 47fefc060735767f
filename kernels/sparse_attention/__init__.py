"""Attention to those earlier tokens, or blocks of them, that an index of small keys scores highest."""
