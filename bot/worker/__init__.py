"""Jobs under a lease: taken from the queue, executed, and found again where a worker died."""
