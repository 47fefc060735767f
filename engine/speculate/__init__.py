"""Tokens guessed from earlier text, checked by the model many at once."""
