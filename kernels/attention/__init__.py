"""Attention of queries over one dense range of keys: the definition that every other attention here is tested
against.
"""
