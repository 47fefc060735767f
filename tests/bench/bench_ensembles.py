"""Whether an ensemble of models chooses better than its best member at equal numbers of samples, on recorded votes.

python -m tests.bench.bench_ensembles [--data FILE] [--quick] [--json FILE]

The data is `matrices.jsonl` of `troop eval ensemble` (`tests/bench/matrices/ensembles`), where the same tests vote
whichever samples are drawn. So many samples of one member (where it has as many) are held against equal parts of each,
in many draws; the best member is the one that is chosen from best with so many on these tasks. Intervals are of 95 %,
over the tasks.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.evaluation.ensembles import Pooled, read_pooled
from bot.evaluation.estimates import Interval, powers, shares
from bot.evaluation.selectors import Matrix, by_any, by_ours, by_random, per_task
from bot.solver.ballot import Array
from tests.bench.bench_selection import OWN, find, lines_of

ENSEMBLES = OWN / "ensembles"
DRAWS = 100  # of each task
WAYS = {"random": by_random, "chosen": by_ours, "coverage": by_any}


def drawn(tasks: Sequence[Pooled], samples: Sequence[int], draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """What so many samples of each member come to, `[tasks]`, by way."""
    views: list[list[Matrix]] = [[task.part(samples, rng) for _ in range(draws)] for task in tasks]
    return {name: per_task(way, views) for name, way in WAYS.items()}


def overlap(tasks: Sequence[Pooled]) -> dict[str, int]:
    """Tasks that any sample of both members solves, of one alone, and of none."""
    solved = [tuple(bool(task.recorded.matrix.solves[each].any()) for each in task.samples) for task in tasks]
    names = {(True, True): "both", (True, False): "the first alone", (False, True): "the second alone"}
    return {words: solved.count(pair) for pair, words in names.items()} | {"none": solved.count((False, False))}


def measure(tasks: Sequence[Pooled], draws: int) -> dict[str, Any]:
    """Shares of the tasks, by number of samples and by whose they are; what the equal parts gain over the best."""
    rng = np.random.default_rng(0)
    names = tasks[0].names
    sizes = [min(each) for each in zip(*(task.sizes for task in tasks), strict=True)]
    figures: dict[str, Any] = {"tasks": len(tasks), "members": names, "draws": draws}
    figures |= {"solved by any sample of": overlap(tasks)} if len(names) == 2 else {}
    most = min(max(sizes), len(names) * min(sizes))
    for number in [number for number in powers(most) if number % len(names) == 0]:
        alone = {
            name: drawn(tasks, list(row), draws, rng)
            for name, size, row in zip(names, sizes, number * np.eye(len(names), dtype=int), strict=True)
            if size >= number
        }
        part = number // len(names)
        together = drawn(tasks, [part] * len(names), draws, rng)
        best = max(alone.values(), key=lambda found: float(found["chosen"].mean()))
        gain = {way: together[way] - best[way] for way in WAYS}
        rows = {**alone, f"{part} of each": together, "gain over the best": gain}
        figures[f"{number} samples"] = {
            name: {way: shares(values).model_dump() for way, values in row.items()} for name, row in rows.items()
        }
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print what `measure` found, in percent."""
    print(f"{figures['tasks']} tasks; any sample solves: {figures.get('solved by any sample of')}")
    for size, rows in figures.items():
        if not size.endswith(" samples"):
            continue
        print(f"  {size}")
        for name, row in rows.items():
            cells = (f"{way} {_percent(Interval.model_validate(found))}" for way, found in row.items())
            print(f"    {name:36} {', '.join(cells)}")


def _percent(found: Interval) -> str:
    return f"{100 * found.value:5.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ENSEMBLES, help="folder or file")
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    found = {}
    for file in find(arguments.data):
        print(f"{file.name}: ", end="")
        found[file.name] = measure(list(map(read_pooled, lines_of(file))), 10 if arguments.quick else DRAWS)
        show(found[file.name])
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
