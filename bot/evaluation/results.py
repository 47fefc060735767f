"""The files that an evaluation leaves in its folder.

`samples.jsonl` has every sample; `report.json` and `report.html` have the figures. `predictions.jsonl` is for the
benchmark's own tools: every completion in HumanEval's form, or each task's selected patch in SWE-bench's and
Multi-SWE-bench's, with every sample's patch in `all_predictions.jsonl` (of several patches of one task these tools
take the last). `matrices.jsonl` has the vote matrices: of each run of the solver, and of functions where tests were
asked for.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bot.atomic import SHARED, write_text
from bot.evaluation.calibration import right_by_chance, told
from bot.evaluation.estimates import Interval, estimate, held_back, shares
from bot.evaluation.figures import Chosen, Figures, Sureness, TaskCount, page
from bot.evaluation.files import name_of, read_kept
from bot.evaluation.functions import code_of
from bot.evaluation.repositories import prediction
from bot.evaluation.samples import SAMPLES, About, Sample, SampleFile, read_sample
from bot.evaluation.selectors import METHODS, Matrix, read_matrices
from bot.evaluation.tasks import RepositoryTask, Task
from bot.records import Price, Speed, Usage
from bot.solver.confidence import SLOPE, log_odds, probability, shift_for

TESTS = "tests"  # the stage of the tests of functions
MATRICES = "matrices.jsonl"


def figures_of(
    tasks: Sequence[Task], about: About, wanted: int, file: SampleFile, left_out: Mapping[str, str]
) -> Figures:
    """The figures of what is there. Tasks that were left out, with the reason, do not count."""
    counts = dict(zip((task.id for task in tasks), file.counts(), strict=True))
    kept = [task.id for task in tasks if task.id not in left_out]
    samples = min((counts[task][0] for task in kept), default=0)
    if about.stop is not None:  # how many more there are hangs on what they came to
        even = dict(zip((task.id for task in tasks), file.counts(samples), strict=True))
    else:
        even = counts
    first = held_back(samples)
    early = dict(zip((task.id for task in tasks), file.counts(first), strict=True)) if first else {}
    found = estimate([even[task] for task in kept], [early[task] for task in kept] if first else None)
    chosen = _chosen(file.path) if about.kind == "repositories" else {}
    return Figures(
        about=about,
        wanted=wanted,
        estimates=found,
        selected=_share([chosen.get(task, False) for task in kept]) if about.kind == "repositories" and kept else None,
        usage=file.usage,
        stages=file.stages,
        left_out=tuple(f"{task}: {words}" for task, words in left_out.items()),
        tasks=tuple(
            TaskCount(id=task, samples=counts[task][0], solving=counts[task][1], selected=chosen.get(task))
            for task in kept
        ),
    )


def rated(figures: Figures, price: Price | None, speed: Speed | None) -> Figures:
    """The figures with what depends on a price and on a speed, where they are known."""
    found: dict[str, float | None] = {}
    if price:
        cost = price.of(figures.usage)
        solving = sum(task.solving for task in figures.tasks)
        found |= {"cost": cost, "cost_of_pass": cost / solving if solving else None}
    if speed and figures.tasks:
        found["runtime"] = speed.of(figures.usage) / len(figures.tasks)
    return figures.model_copy(update=found)


def with_matrices(figures: Figures, lines: Sequence[str], spent: Usage) -> Figures:
    """The figures with what each way of choosing comes to on the matrices, whose tests cost `spent`."""
    matrices = [found.matrix for found in read_matrices(lines)]
    values = {name: np.array([method(matrix) for matrix in matrices]) for name, method in METHODS.items()}
    # What is not a number asks for something that the samples do not have.
    chosen = tuple(
        Chosen(method=name, share=shares(each)) for name, each in values.items() if matrices and np.isfinite(each).all()
    )
    return figures.model_copy(
        update={
            "matrices": len(matrices),
            "selectors": chosen,
            "sureness": _sureness(matrices),
            "usage": figures.usage + spent,
            "stages": figures.stages | ({TESTS: spent} if spent.calls else {}),
        }
    )


def read_report(folder: Path) -> Figures:
    """The figures that were written. Raises `EvaluationError` where there are none."""
    return read_kept(folder / "report.json", Figures)


def keep_matrix(folder: Path, task: str, line: str) -> None:
    """Keep the vote matrix of one task, until all are put together; whole or not at all, also where it is killed."""
    path = _matrix(folder, task)
    path.parent.mkdir(exist_ok=True)
    write_text(path, line, SHARED)


def kept_matrices(folder: Path, tasks: Sequence[Task]) -> list[str]:
    """The vote matrices that were kept, in the order of the tasks."""
    paths = [_matrix(folder, task.id) for task in tasks]
    return [text for path in paths if path.exists() and (text := path.read_text())]


def _matrix(folder: Path, task: str) -> Path:
    return folder / "matrices" / f"{name_of(task)}.json"


def _sureness(matrices: Sequence[Matrix]) -> Sureness | None:
    found = [one for one in map(told, matrices) if one is not None]
    if not found:
        return None
    odds, right = [SLOPE * log_odds(row) for row, _ in found], [solves for _, solves in found]
    expected = list(map(probability, odds))
    low, high = right_by_chance(expected)
    return Sureness(
        choices=len(found),
        expected=sum(expected) / len(expected),
        right=sum(right) / len(right),
        low=low,
        high=high,
        shift=round(shift_for(odds, right), 2),
    )


def samples_of(path: Path, wanted: int) -> dict[str, list[Sample]]:
    """The first `wanted` samples of each task, in their order."""
    found: dict[str, list[Sample]] = {}
    for sample in _samples(path):
        if sample.sample < wanted:
            found.setdefault(sample.task, []).append(sample)
    return {task: sorted(samples, key=lambda sample: sample.sample) for task, samples in found.items()}


def _share(right: Sequence[bool]) -> Interval:
    """With Wilson's interval: it also holds where all or none are right."""
    n, z = len(right), 1.96
    p = sum(right) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return Interval(value=p, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _chosen(path: Path) -> dict[str, bool]:
    """Of each task with a selected patch, whether it solves the task."""
    return {sample.task: sample.solves for sample in _samples(path) if sample.selected}


def write(folder: Path, figures: Figures, tasks: Sequence[Task]) -> None:
    """All files but the samples, from the samples and the figures."""
    write_text(folder / "report.json", figures.model_dump_json(indent=2) + "\n", SHARED)
    write_text(folder / "report.html", page(figures), SHARED)
    if figures.about.kind == "functions":
        _write_completions(folder)
    else:
        _write_patches(folder, figures.about.model, tasks)


def _write_completions(folder: Path) -> None:
    """In the form of HumanEval's own harness, which puts them behind the prompt: each defines its function once more,
    whole.
    """
    with (folder / "predictions.jsonl").open("w") as out:
        for sample in _samples(folder / SAMPLES):
            out.write(json.dumps({"task_id": sample.task, "completion": f"\n{code_of(sample.text)}\n"}) + "\n")


def _write_patches(folder: Path, model: str, tasks: Sequence[Task]) -> None:
    by_id = {task.id: task for task in tasks if isinstance(task, RepositoryTask)}
    chosen = dict.fromkeys(by_id, "")
    with (folder / "all_predictions.jsonl").open("w") as out:
        for sample in _samples(folder / SAMPLES):
            if sample.drawn:
                out.write(prediction(by_id[sample.task], model, sample.text))
            if sample.selected:
                chosen[sample.task] = sample.text
    lines = (prediction(by_id[task], model, patch) for task, patch in chosen.items())
    (folder / "predictions.jsonl").write_text("".join(lines))


def _samples(path: Path) -> Iterator[Sample]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield read_sample(line, f"{path}, line {number}")
