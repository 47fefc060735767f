"""The scenario's model as `python -m tests.scripted --script` wants it."""

from tests.integration.scenario import script as reply

__all__ = ["reply"]
