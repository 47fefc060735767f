"""Several parts together: processes, servers and containers as they are deployed."""
