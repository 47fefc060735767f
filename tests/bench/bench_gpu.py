"""All figures of a GPU in one run of a few minutes, the most telling first.

    python -m tests.bench.bench_gpu [--minutes 8] [--only WORD]... [--quick] [--json FILE]

Of attention alone: our kernel against the floor, then against FlashInfer's cascade and paged decode and torch's
variable-length attention where these are installed, over the trees of `attention_trees`. Of the engine, with random
weights in the shapes of Qwen2.5-Coder 1.5B and 7B: tokens per second of 256 and 1,024 samples over 1K to 32K of shared
prompt, against the same without attention and attention's floor; how much of the host's time is hidden; and
`transformers.generate`, also compiled, on the same. Of experts alone, in Qwen3-Coder-30B-A3B's shape: our kernel over
weights of each kind against the floor, and against torch's grouped product. Of gated delta rules and state
spaces alone, in the shapes of Qwen3-Next, Kimi-Linear, Nemotron-H and Jamba: our kernel against the floor, torch, and
flash-linear-attention or mamba-ssm where that is installed.

A row that fails, hangs or crashes is told with its reason, and costs no other: rows are measured in a process of their
own (`gpu_worker`), which is replaced where it broke. The JSON is written after each row, and names the rows for which
no time was left: a run that is cut off keeps what it measured. No ratio is taken of a kernel that does not agree with
the reference, and the run then returns 1.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tests.bench.attention_trees import shapes
from tests.bench.gpu_rows import FIRST, Plan, Row
from tests.bench.gpu_summary import summary
from tests.bench.gpu_worker import RowError, Worker
from tests.bench.qwen_shapes import QWEN
from tests.bench.summary import rows as summary_rows
from tests.bench.summary import table

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PATIENCE = 2  # how many times its estimate a row may take


class Run:
    """Rows measured so far, with their file."""

    def __init__(self, about: dict[str, Any], file: Path, limit: float, worker: Worker) -> None:
        self.figures: dict[str, Any] = about | {"rows": {}, "failed": {}, "skipped": []}
        self.wrong = False  # our kernel is
        self._file = file
        self._limit = limit
        self._worker = worker
        self._begin = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds."""
        return self._limit - (time.monotonic() - self._begin)

    def measure(self, row: Row) -> None:
        """Measure one row if there is time, print and write it. If it fails, that is noted, and the next one comes."""
        if self.left < row.seconds:
            self.figures["skipped"].append(row.name)
            print(f"{row.name}: left out, {max(0, self.left):.0f} s are left and it may take {row.seconds:.0f}")
        else:
            begin = time.monotonic()
            try:
                found = self._worker.run(row.name, PATIENCE * row.seconds, self.left)
            except RowError as error:
                self.wrong = self.wrong or error.wrong
                self.figures["failed"][row.name] = str(error)
                print(f"{row.name}: {error}", flush=True)
            else:
                took = round(time.monotonic() - begin, 1)
                self.figures["rows"][row.name] = found | {"took_seconds": took}
                print(f"{row.name}: {json.dumps(_short(found))}  ({took} s)", flush=True)
        self.figures["summary"] = list(summary(self.figures["rows"]))
        temporary = self._file.with_suffix(".part")
        temporary.write_text(json.dumps(self.figures, indent=2) + "\n")
        temporary.replace(self._file)


def _short(value: Any) -> Any:
    """Four digits of each number are enough to read, and a line of an error."""
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, str):
        return value.partition("\n")[0][:120]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def about(command: str) -> dict[str, Any]:
    """What a figure means nothing without."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("triton", "transformers", "flashinfer-python"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"command": command, "device": torch.cuda.get_device_name(), "versions": versions}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins that may not end in them")
    parser.add_argument("--only", action="append", help="rows whose names hold this word; may be repeated")
    parser.add_argument("--quick", action="store_true", help="three minutes")
    parser.add_argument("--json", type=Path, default=RESULTS, help="write the figures to this file, after every row")
    args = parser.parse_args(argv)
    if args.quick:
        args.minutes = min(args.minutes, 3.0)
    return args


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where our kernel is wrong."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_gpu", *(sys.argv[1:] if argv is None else argv)])
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 0
    worker = Worker()
    run = Run(about(command), args.json, args.minutes * 60, worker)
    print(f"command   {command}\ndevice    {run.figures['device']}, {run.figures['versions']}", flush=True)
    if run.figures["versions"]["flashinfer-python"] == "not installed":
        print("FlashInfer is not installed: nothing is compared with it")
    try:
        for row in Plan(QWEN).rows(shapes(), FIRST):
            if not args.only or any(word in row.name for word in args.only):
                run.measure(row)
    finally:
        worker.close()
    print(table(summary_rows("gpu", run.figures)))
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
