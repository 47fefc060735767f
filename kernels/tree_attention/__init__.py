"""Attention of a batch of sequences over a tree of shared prefixes in a paged cache."""
