"""The service under SIGKILL: `make chaos`."""
