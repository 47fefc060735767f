"""Attention to those earlier tokens that an index of small keys scores highest."""
