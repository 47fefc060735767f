"""A model over several processes: rank 0's side, the others', and what they say to each other."""
