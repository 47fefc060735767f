"""The web process: takes deliveries, answers at once, shows where runs are."""
