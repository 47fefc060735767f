"""`make bench`: every benchmark as a process of its own, its figures as JSON under `tests/bench/results/`.

python -m tests.bench [--quick] [--only NAME]... [--out DIR]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.summary import rows, table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def machine() -> dict[str, object]:
    """What a figure means nothing without."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }


def written(path: Path) -> int:
    """When, in nanoseconds; 0 where there is no such file."""
    return path.stat().st_mtime_ns if path.exists() else 0


def main() -> int:
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look")
    parser.add_argument("--only", action="append", choices=names, help="this one; may be repeated")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON files")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed, found = [], []
    for name in arguments.only or names:
        target = arguments.out / f"{name}.json"
        argv = [sys.executable, "-m", f"tests.bench.bench_{name}", "--json", str(target)]
        argv += ["--quick"] if arguments.quick else []
        command = " ".join(["python", *argv[1:3], *(["--quick"] if arguments.quick else [])])
        print(f"== {name}: {command}", flush=True)
        started, before = time.monotonic(), written(target)
        if subprocess.run(argv, cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
            continue
        seconds = round(time.monotonic() - started, 1)
        print(f"-- {seconds:.0f} s", flush=True)
        if written(target) != before:  # older figures are not those of this run
            told = json.loads(target.read_text())
            record = {"command": command, "machine": machine(), "seconds": seconds}
            figures, beside = (told.pop("figures"), told) if "figures" in told else (told, {})
            if isinstance(figures, dict):  # else a list of rows
                figures.pop("command", None)  # the one above, with this machine's path of the file
            target.write_text(json.dumps(beside | record | {"figures": figures}, indent=2) + "\n")
            found += rows(name, figures)
    if found:
        print(f"\n{table(found)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
