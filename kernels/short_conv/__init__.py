"""One token of each text by a short convolution, in the pool that holds the texts' last inputs."""
