"""A step on the model: its batch, CUDA graphs, sampling, and what it costs in memory and time."""
