"""Every decoder of `transformers`, tiny and random, tried in the engine: what `docs/models.md` is made from."""
