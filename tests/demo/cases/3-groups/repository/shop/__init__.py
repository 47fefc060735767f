"""The museum's shop."""
