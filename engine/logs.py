"""How the engine's processes log: their own lines from a level on, and warnings of libraries."""

import logging

LEVEL = "TROOP_LOG_LEVEL"
OURS = ("engine", "kernels")


def begin(level: str) -> None:
    """Log to standard error from now on. `level`: `debug`, `info`, `warning` or `error`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())


def level() -> str:
    """That of this process, for those that it starts."""
    return logging.getLevelName(logging.getLogger(OURS[0]).getEffectiveLevel()).lower()
