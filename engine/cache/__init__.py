"""The paged cache's blocks, and what is kept in them: the tree of prefixes, and prompts' logits."""
