"""Rotary embedding of queries and keys, fused with writing keys and values into the paged cache."""
