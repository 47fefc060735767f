"""Helpers for short texts."""
