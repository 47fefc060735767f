"""Speed and memory figures: each with its command, its machine, and its baseline in the same run."""
