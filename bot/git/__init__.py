"""A change of a repository as git objects: the safe git command, checkouts and commits."""
