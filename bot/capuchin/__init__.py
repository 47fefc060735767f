"""Capuchin, the bundled model: its corpus, its exercises, its training. `python -m bot.capuchin --help` makes it again.

corpus -> executed -> tasks -> tokenizer -> shards -> train -> evaluate -> engine/checkpoints/capuchin

Nothing of the solver imports this package; it imports the solver's prompts and records, so that what is trained is
letter by letter what is sent later. torch is imported only where weights are touched.
"""
