"""One token of each text by the gated delta rule, in the pool that holds the texts' states."""
