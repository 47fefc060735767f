"""A change of a repository as text: edits applied, diffs, and what a change may touch. No I/O but reading."""
