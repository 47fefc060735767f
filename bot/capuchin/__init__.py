"""Capuchin, the bundled model: its corpus, exercises and training. `python -m bot.capuchin` makes it.

corpus -> executed -> tasks -> tokenizer -> shards -> train -> evaluate -> engine/checkpoints/capuchin

The solver does not import this package. This package imports the solver's prompts and records, so that the model is
trained on exactly the text that it is sent later. torch is imported only by modules that use weights.
"""
