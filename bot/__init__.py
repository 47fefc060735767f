"""The GitHub side of Troop and its solver. Never imports `engine` or `kernels`; it meets the engine over HTTP."""
