"""Merging of attention results over disjoint sets of keys by their log-sum-exp."""
