"""The host's part of decoding: milliseconds of this process's CPU a step, and seconds to admit and to finish 1,024
samples of one prompt, on this tree and on an older one.

    python -m tests.bench.bench_host [--quick] [--against COMMIT] [--json FILE]

The model computes nothing (`tests.bench.host_steps`), so what is left is Python, numpy and torch's calls. The older
tree is taken from git and measured in turn with this one, in the same run; without it, or without git, the figures that
were recorded at `BEFORE` are the baseline. CPU time counts, not the clock's: a busy machine disturbs little.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BEFORE = "e4f4192"  # the last commit whose step looked at every row as an object
RECORDED = {"64": 1.61, "256": 5.04, "1024": 17.6, "admit and finish": 1.41}  # at `BEFORE`: ms a step, and seconds
CASES: dict[str, tuple[int, int]] = {"64": (64, 2048), "256": (256, 2048), "1024": (1024, 2048)}
LONG = (1024, 16_384)  # rows, tokens of the prompt
ROUNDS = 3  # the best of each counts


def older(commit: str, folder: Path) -> bool:
    """Unpack the packages of a commit; whether git has it."""
    argv = ["git", "archive", commit, "engine", "kernels"]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    worker = folder / "tests" / "bench"
    worker.mkdir(parents=True)
    for each in (worker.parent, worker):
        (each / "__init__.py").touch()
    (worker / "host_steps.py").write_bytes((ROOT / "tests/bench/host_steps.py").read_bytes())
    return True


def run(tree: Path, rows: int, prompt: int, steps: int) -> dict[str, float]:
    """One process of `tests.bench.host_steps` in a tree."""
    argv = [sys.executable, "-m", "tests.bench.host_steps", f"--rows={rows}", f"--prompt={prompt}", f"--steps={steps}"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    found = subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return result


def measure(trees: dict[str, Path], steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """The best of several rounds, by tree and case, trees in turn."""
    best: dict[str, dict[str, float]] = {name: {} for name in trees}
    for _ in range(rounds):
        for case, (rows, prompt) in (CASES | {"admit and finish": LONG}).items():
            for name, tree in trees.items():
                found = run(tree, rows, prompt, steps)
                figure = found["admit_s"] + found["finish_s"] if (rows, prompt) == LONG else found["step_ms"]
                best[name][case] = min(figure, best[name].get(case, figure))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_host", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one round of fewer steps")
    parser.add_argument("--against", default=BEFORE, metavar="COMMIT", help="the older tree")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        trees = {"now": ROOT}
        if older(arguments.against, Path(scratch)):
            trees["before"] = Path(scratch)
        best = measure(trees, 20 if arguments.quick else 60, 1 if arguments.quick else ROUNDS)
    baseline, where = (best["before"], "same run") if "before" in best else (RECORDED, "recorded")
    summary: list[dict[str, Any]] = []
    for case, figure in best["now"].items():
        long = case == "admit and finish"
        unit = "s" if long else "ms"
        name = "admit and finish 1024 samples over 16K" if long else f"host time a step, {case} rows"
        ratio = baseline[case] / figure
        print(
            f"{name}: {figure:.3g} {unit}, {baseline[case]:.3g} {unit} at {arguments.against} ({where}): {ratio:.1f}x"
        )
        summary.append(
            {
                "name": name,
                "figure": f"{figure:.3g} {unit}",
                "baseline": f"{arguments.against} ({where}): {baseline[case]:.3g} {unit}",
                "ratio": round(ratio, 2),
                "goal": "-",
            }
        )
    if arguments.json:
        figures = {"now": best["now"], "before": baseline, "commit": arguments.against, "summary": summary}
        arguments.json.write_text(json.dumps({"figures": figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
