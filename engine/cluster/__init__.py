"""Several engines behind one address: Ray starts them, and how a prompt begins says which one computes it."""
