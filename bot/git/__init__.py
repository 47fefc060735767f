"""A change as git objects: the safe git command, checkouts and commits."""
