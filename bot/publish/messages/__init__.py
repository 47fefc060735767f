"""The words that people read on GitHub. Pure."""
