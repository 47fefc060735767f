"""Rows for tests of `gpu_worker`: some that fail in each way in which a GPU's do."""

import os
import time
from typing import Any


class Toys:
    """See `tests.bench.gpu_worker.Rows`."""

    def __init__(self) -> None:
        self._works = True
        self._runs = 0

    def run(self, name: str) -> dict[str, Any]:
        """Do what the name says."""
        self._runs += 1
        print("what libraries print is no answer", flush=True)
        if name == "hangs":
            while True:
                time.sleep(1)
        if name == "crashes":
            os.abort()
        if name == "wrong":
            raise ArithmeticError("ours: 0.3 off the reference")
        if name != "right":
            self._works = name != "breaks"
            raise RuntimeError(name)
        return {"process": os.getpid(), "runs": self._runs}

    def works(self) -> bool:
        """Until a row breaks it."""
        return self._works


def toys() -> Toys:
    """The rows."""
    return Toys()
