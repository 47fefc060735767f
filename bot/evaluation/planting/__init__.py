"""Tasks made of any pure-Python package with doctests: a bug planted in one line, told as an issue, judged by examples.

A bug is one changed line of a function with doctests, such that one of its examples comes out differently; the issue is
made of that example. A candidate solves it where every doctest of the module passes that passed on the original, from
the original's docstrings, and those of the package's own tests that name the function.
"""
