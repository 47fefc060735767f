"""Chooses what a model is shown of a repository: source files, ranked by their words, whole or as excerpts."""
