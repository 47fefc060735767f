"""A signed delivery and what it comes to: bytes to a decision, without I/O."""
