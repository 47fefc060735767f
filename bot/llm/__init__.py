"""Calls to models: endpoints, prompts, conversations, and the parsing of replies."""
