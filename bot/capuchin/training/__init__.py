"""The bundled model: its tokenizer, network, training and evaluation."""
