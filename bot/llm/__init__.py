"""Talking to a model: endpoints, prompts, conversations, and what a reply says."""
