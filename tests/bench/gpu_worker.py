"""Rows of `bench_gpu` in a process of their own. A kernel that hangs, a crash, or an illegal access, after which a
process can use the GPU no more, costs its own row and a new process, but no row before or after it.

The process reads a row's name a line and answers with a line of JSON; what libraries print goes to standard error.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
START = 120.0  # seconds that a new process has beside its row: imports from a cold disk, and what rows share
DIES_WITH_PARENT = 1  # prctl(2): PR_SET_PDEATHSIG


class RowError(Exception):
    """A row has no figures."""

    def __init__(self, words: str, wrong: bool = False) -> None:
        super().__init__(words)
        self.wrong = wrong  # our kernel is


class Rows(Protocol):
    """What measures rows."""

    def run(self, name: str) -> dict[str, Any]:
        """Measure one.

        Raises:
            ArithmeticError: our kernel does not agree with the reference.
            Exception: whatever else went wrong.
        """
        ...

    def works(self) -> bool:
        """Whether another row may be measured in this process."""
        ...


class Worker:
    """The process, started when it is first needed and whenever it is gone. `close` it."""

    def __init__(self, rows: str = "tests.bench.gpu_rows:standard", start: float = START) -> None:
        """
        Args:
            rows: module and name of a function that makes `Rows`.
            start: seconds that a new process has more.
        """
        self._rows = rows
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""

    def run(self, name: str, limit: float, most: float) -> dict[str, Any]:
        """Measure a row.

        Args:
            name: of the row.
            limit: seconds, after which the process is ended; a new one has more.
            most: seconds, also of a new process.

        Raises:
            RowError: with the reason why there are no figures.
        """
        if self._process is None:
            argv = [sys.executable, "-m", "tests.bench.gpu_worker", self._rows]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(argv, cwd=ROOT, **pipes)
            limit += self._start
        limit = min(limit, most)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(name).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._answer(time.monotonic() + limit)
        except (TimeoutError, BrokenPipeError, EOFError) as error:
            code = self._end()
            words = str(error) or f"the process ended with {code}"
            raise RowError(f"{words}: rows that come begin in a new one") from error
        if answer["ends"]:
            self._end()
        if answer["error"]:
            raise RowError(answer["error"], answer["wrong"])
        found: dict[str, Any] = answer["found"]
        return found

    def _answer(self, until: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError("no answer in time")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise EOFError
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        return json.loads(line)

    def _end(self) -> int | None:
        """End the process; what it ended with."""
        process, self._process, self._said = self._process, None, b""
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a name that was not read
                    pipe.close()
        code = process.poll()
        if code is None:
            process.kill()
            code = process.wait()
        return code

    def close(self) -> None:
        """End the process."""
        self._end()


def serve(rows: Rows, names: Any, answers: Any) -> None:
    """The process's side: measure the rows that lines of `names` ask for, until one breaks it."""
    for line in names:
        answer: dict[str, Any] = {"found": None, "error": "", "wrong": False, "ends": False}
        try:
            answer["found"] = rows.run(json.loads(line))
        except Exception as error:  # whatever it is, the other rows are worth measuring
            answer["error"] = f"{type(error).__name__}: {error}"
            answer["wrong"] = isinstance(error, ArithmeticError)
        answer["ends"] = bool(answer["error"]) and not rows.works()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if answer["ends"]:
            return


def main() -> None:
    """The process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = sys.argv[1].partition(":")
    make: Callable[[], Rows] = getattr(importlib.import_module(module), name)
    serve(make(), sys.stdin, answers)


if __name__ == "__main__":
    main()
