"""From a signed delivery to a decision, without I/O."""
