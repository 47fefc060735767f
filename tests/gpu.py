"""What only a GPU can tell, in one command: whether kernels and graphs are right there, then all figures.

    python -m tests.gpu [--minutes 8] [--tests 4] [--out FOLDER]

The tests are those marked `gpu`. They need torch, Triton, transformers and pytest alone, and run in several processes,
most evenly where pytest-xdist is installed: most of their time is Triton's compiling. A test that hangs is ended where
pytest-timeout is installed, all of them at their limit anyway: the figures come in every case, for a kernel that is
wrong has none (`tests.bench.bench_gpu`). The folder gets `gpu-tests.txt` and `gpu.json`. Returns 1 where either failed.
Without a GPU, `tests.pretended_cuda` runs all but the machine code.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOGETHER = 14  # processes that test at most: each holds a gigabyte of the GPU
SPARE = 2  # processors, for what the others wait for
SHOWN = 6000  # characters of the tests' output
HANGS = 90  # seconds of one test, its compiling included


def selection() -> list[str]:
    """pytest's arguments: only files that hold a marked test are imported, for others need more packages."""
    files = sorted(
        str(path.relative_to(ROOT))
        for folder in ("tests/kernels", "tests/engine")
        for path in (ROOT / folder).rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text()
    )
    # Another version of a library warns of something else, and a machine without pytest-asyncio of its settings: no
    # warning says that a kernel is wrong.
    plain = ["-p", "no:cacheprovider", "-p", "tests.gpu_guard", "-W", "default"]
    return [*files, "-m", "gpu", "-q", *plain]


# Each line may be what is missing: a driver, torch's own CUDA, the compiler that Triton's launches need.
LOOK = """
import torch, transformers, triton
print("torch", torch.__version__, "triton", triton.__version__, "transformers", transformers.__version__, flush=True)
print(torch.cuda.get_device_name(), torch.cuda.mem_get_info(), flush=True)
from kernels.silu_mul.triton import silu_mul
print(silu_mul(torch.ones(1, 8, device="cuda")).tolist())
"""


def ready() -> bool:
    """Whether a kernel runs on a GPU here; prints what there is, or what is missing."""
    return subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, check=False).returncode == 0


def commands() -> list[list[str]]:
    """What tests: one process, whose workers share all files, or without pytest-xdist a process for each file."""
    argv = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", "--durations=10"]
    if find_spec("pytest_timeout"):
        argv += [f"--timeout={HANGS}", "--timeout-method=thread"]
    chosen = selection()
    if find_spec("xdist"):
        return [[*argv, *chosen, "-n", str(max(1, min(TOGETHER, len(os.sched_getaffinity(0)) - SPARE)))]]
    files = [part for part in chosen if part.endswith(".py")]
    return [[*argv, file, *(part for part in chosen if part not in files)] for file in files]


def test(limit: float, log: Path) -> bool:
    """Run the tests; whether all passed."""
    # Who starts it may be a worker of pytest-xdist itself, which its processes must not take themselves for.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    until, right, running = time.monotonic() + limit, True, []
    started = commands()
    for number, argv in enumerate(started):
        part = log.with_stem(f"{log.stem}-{number}") if len(started) > 1 else log
        with part.open("w") as file:
            running.append(
                (subprocess.Popen(argv, cwd=ROOT, env=mine, stdout=file, stderr=file, process_group=0), part)
            )
    for process, part in running:
        try:
            right &= process.wait(max(0.0, until - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            right = False
            print(f"the tests were ended after {limit:.0f} s", flush=True)
            os.killpg(process.pid, signal.SIGKILL)  # one that hangs would keep the GPU busy
            process.wait()
        print(part.read_text()[-SHOWN // len(running) :], flush=True)
    if len(running) > 1:
        log.write_text("".join(part.read_text() for _, part in running))
    return right


def main(argv: list[str] | None = None) -> int:
    """Test, measure, and return 0; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="of the figures")
    parser.add_argument("--tests", type=float, default=4.0, help="minutes of the tests at most; 0: none")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "tests" / "bench" / "results", help="folder of what is found"
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    if not ready():
        print("no kernel runs on a GPU here, so nothing is tested or measured", flush=True)
        return 1
    left = begin + 60 * args.tests - time.monotonic()  # imports from a cold disk take a minute
    right = args.tests <= 0 or test(left, args.out / "gpu-tests.txt")
    figures = ["-m", "tests.bench.bench_gpu", f"--minutes={args.minutes:g}", "--json", str(args.out / "gpu.json")]
    measured = subprocess.run([sys.executable, *figures], cwd=ROOT, check=False).returncode == 0
    return 0 if right and measured else 1


if __name__ == "__main__":
    sys.exit(main())
