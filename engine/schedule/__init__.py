"""Which sequences run next, with which blocks, and how many tokens of each."""
