"""One token of each text by a state space (Mamba, Mamba 2), in the pool that holds the texts' states."""
