"""The web process: receives deliveries, answers at once, and shows the state of runs."""
