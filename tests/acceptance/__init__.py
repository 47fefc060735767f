"""Planted one-line bugs in real packages, solved at 1, 4, 16 and 64 trajectories: `python -m tests.acceptance`.

The packages are pure Python, come from the registry at fixed versions when this is run, and are no part of the bundled
model's training data. A bug is one changed line of a function with doctests, such that one of its examples comes out
differently; the issue is made of that example. Docstrings stay as they are in the package, since real repositories have
them; the package's tests are taken out of the checkout. A candidate solves the bug where the hidden check passes: every
doctest of the module that passed on the original, from the original's docstrings, and those of the package's own tests
that name the function. So the solver itself does not run the documented examples here (`TROOP_SOLVER_EXAMPLES`), as it
does elsewhere.
"""
