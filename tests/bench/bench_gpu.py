"""All figures of a GPU in one run of a few minutes, the most telling first.

    python -m tests.bench.bench_gpu [--minutes 8] [--only WORD]... [--quick] [--json FILE]

Of attention alone: our kernel against the floor, then against FlashInfer's cascade and paged decode and torch's
variable-length attention where these are installed, over the trees of `attention_trees`. Of the engine: tokens per
second of 1,024 samples over 1K and 16K of shared prompt, with attention and without (the ceiling), for random weights
in the shapes of Qwen2.5-Coder 1.5B and 7B; and `transformers.generate` on the same. The JSON is written after each row,
and names the rows for which no time was left, or which failed, with the reason: a run that is cut off keeps what it
measured. No ratio is taken of a kernel that does not agree with the reference, and the run then returns 1.
"""

import argparse
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.bench.attention_trees import Shape, shapes

PREFIXES = (16_384, 1024)
BATCH, NEW = 1024, 128
GENERATE = (128, 1024, 64)  # samples, prompt, new tokens
QUICK = [shapes(quick=True)[1], shapes()[7], shapes()[10], shapes(quick=True)[3]]  # one of each size, and a tree


class Row(NamedTuple):
    """One measurement."""

    name: str
    seconds: float  # that it may take, compiling included: an estimate
    run: Callable[[], dict[str, Any]]


class Run:
    """Rows measured so far, with their file."""

    def __init__(self, about: dict[str, Any], file: Path | None, limit: float) -> None:
        self.figures: dict[str, Any] = about | {"rows": {}, "failed": {}, "skipped": []}
        self.wrong = False  # our kernel is
        self._file = file
        self._limit = limit
        self._begin = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds."""
        return self._limit - (time.monotonic() - self._begin)

    def measure(self, row: Row) -> None:
        """Measure one row if there is time, print and write it. Whatever it raises is noted, and the next one comes."""
        if self.left < row.seconds:
            self.figures["skipped"].append(row.name)
            print(f"{row.name}: left out, {max(0, self.left):.0f} s are left and it may take {row.seconds:.0f}")
        else:
            begin = time.monotonic()
            try:
                found = row.run()
            except Exception as error:  # the others are worth measuring whatever it is
                self.wrong = self.wrong or isinstance(error, ArithmeticError)
                self.figures["failed"][row.name] = f"{type(error).__name__}: {error}"
                print(f"{row.name}: {self.figures['failed'][row.name]}", flush=True)
            else:
                took = round(time.monotonic() - begin, 1)
                self.figures["rows"][row.name] = found | {"took_seconds": took}
                print(f"{row.name}: {json.dumps(found)}  ({took} s)", flush=True)
        self.figures["summary"] = list(summary(self.figures["rows"]))
        if self._file:
            temporary = self._file.with_suffix(".part")
            temporary.write_text(json.dumps(self.figures, indent=2) + "\n")
            temporary.replace(self._file)


class Plan:
    """Rows in the order of what they tell. Models and trees are made when first needed, and dropped for the next."""

    def __init__(self, sizes: dict[str, dict[str, Any]], batch: int, prefixes: tuple[int, ...], new: int) -> None:
        self._sizes, self._batch, self._prefixes, self._new = sizes, batch, prefixes, new
        self._held: dict[str, Any] = {}  # one model, one tree

    def rows(self, trees: list[Shape], first: list[Shape]) -> Iterator[Row]:
        """All of them: a few trees, both models, `generate`, the comparison on these trees, then all other trees."""
        names = {shape.name for shape in first}
        for shape in first:
            yield Row(f"attention, {shape.name}", 40, lambda shape=shape: self._ours(shape))  # type: ignore[misc]
        for name in self._sizes:
            for prefix in self._prefixes:
                for ceiling in (False, True):
                    text = f"engine, {name}, {self._batch} over {prefix}{', no attention' if ceiling else ''}"
                    estimate = 60 if prefix == self._prefixes[0] and not ceiling else 25
                    yield Row(text, estimate, self._decoding(name, prefix, ceiling))
        name = next(iter(self._sizes))
        samples, prompt, new = GENERATE if self._batch == BATCH else (2, 32, 4)
        yield Row(f"generate, {name}, {samples} over {prompt}", 60, lambda: self._generate(name, samples, prompt, new))
        for shape in first:
            yield Row(f"others, {shape.name}", 60, lambda shape=shape: self._others(shape))  # type: ignore[misc]
        for shape in trees:
            if shape.name not in names:
                yield Row(f"attention, {shape.name}", 15, lambda shape=shape: self._ours(shape))  # type: ignore[misc]
                yield Row(f"others, {shape.name}", 20, lambda shape=shape: self._others(shape))  # type: ignore[misc]

    def _hold(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._held:
            self._held.clear()
            from tests.bench.engine_gpu import free

            free()
            self._held[name] = make()
        return self._held[name]

    def _rates(self) -> Any:
        from tests.bench.attention_gpu import Rates

        if not hasattr(self, "_measured"):
            self._measured = Rates.measure()
        return self._measured

    def _bed(self, shape: Shape) -> Any:
        from tests.bench.attention_gpu import Bed

        return self._hold(shape.name, lambda: Bed(shape))

    def _ours(self, shape: Shape) -> dict[str, Any]:
        from tests.bench.attention_gpu import ours, tiling

        rates = self._rates()
        times = ours(self._bed(shape), rates)
        about = {"seconds": times, "queries_of_a_tile": getattr(tiling(shape.heads), "large", None)}
        return about | {"bytes_per_second": rates.bytes, "flops_per_second": rates.flops}

    def _others(self, shape: Shape) -> dict[str, Any]:
        """With ours once more, so that ratios are of one moment."""
        from tests.bench.attention_gpu import others, ours

        bed = self._bed(shape)
        return {"seconds": ours(bed, self._rates()) | others(bed)}

    def _subject(self, name: str) -> Any:
        from tests.bench.engine_gpu import Subject

        return self._hold(name, lambda: Subject.of(self._sizes[name]))

    def _decoding(self, name: str, prefix: int, ceiling: bool) -> Callable[[], dict[str, Any]]:
        def run() -> dict[str, Any]:
            found: dict[str, Any] = self._subject(name).decode(self._batch, prefix, self._new, ceiling)
            return found

        return run

    def _generate(self, name: str, samples: int, prompt: int, new: int) -> dict[str, Any]:
        from tests.bench.engine_gpu import generated, whole

        engine = whole(self._subject(name), samples, prompt, new)
        self._held.clear()
        theirs = generated(self._sizes[name], samples, prompt, new)
        tokens = samples * new
        return {"engine_tokens_per_second": tokens / engine, "generate_tokens_per_second": tokens / theirs}


def summary(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of `make bench`'s table, of what has been measured."""
    floors, cascades = [], []
    for name, row in rows.items():
        if "seconds" not in row:
            continue
        times, shape = row["seconds"], name.partition(", ")[2]
        if name.startswith("attention"):
            ours, floor = times["ours, in a graph"], times["floor"]
            floors.append(floor / ours)
            text = {"figure": f"{ours * 1e6:.0f} us", "baseline": f"floor: {floor * 1e6:.0f} us"}
            yield {"name": name, **text, "ratio": floor / ours, "goal": ">= 0.7"}
        elif isinstance(theirs := times["flashinfer cascade"], float):
            cascades.append(theirs / times["ours"])
            text = {
                "figure": f"{times['ours'] * 1e6:.0f} us",
                "baseline": f"FlashInfer's cascade: {theirs * 1e6:.0f} us",
            }
            yield {"name": f"attention, {shape}", **text, "ratio": cascades[-1], "goal": ">= 1.0"}
    if cascades:
        mean = math.exp(sum(map(math.log, cascades)) / len(cascades))
        text = {"figure": f"{len(cascades)} trees", "baseline": "FlashInfer's cascade"}
        yield {"name": "attention, geometric mean", **text, "ratio": mean, "goal": ">= 1.5"}
    yield from _rates(rows)


def _rates(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    engine = {name: row["tokens_per_second"] for name, row in rows.items() if name.startswith("engine")}
    for name, rate in engine.items():
        text = {"figure": f"{rate:,.0f} tokens/s"}
        if (bare := engine.get(f"{name}, no attention")) is not None:
            yield {
                "name": name,
                **text,
                "baseline": f"no attention: {bare:,.0f}",
                "ratio": rate / bare,
                "goal": ">= 0.9",
            }
        head, _, prefix = name.rpartition(" over ")
        others = [each for each in engine if each.rpartition(" over ")[0] == head and each != name]
        for other in others:
            less = other.rpartition(" over ")[2]
            if prefix.isdigit() and less.isdigit() and int(less) < int(prefix):
                text["baseline"] = f"over {less}: {engine[other]:,.0f} tokens/s"
                yield {"name": name, **text, "ratio": rate / engine[other], "goal": ">= 0.95"}
    for name, row in rows.items():
        if name.startswith("generate"):
            ours, theirs = row["engine_tokens_per_second"], row["generate_tokens_per_second"]
            text = {"figure": f"{ours:,.0f} tokens/s", "baseline": f"transformers.generate: {theirs:,.0f} tokens/s"}
            yield {"name": name.replace("generate", "engine", 1), **text, "ratio": ours / theirs, "goal": ""}


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
    parser.add_argument("--json", type=Path, help="write the figures to this file, after every row")
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
    from tests.bench.engine_gpu import QWEN

    run = Run(about(command), args.json, args.minutes * 60)
    print(f"command   {command}\ndevice    {run.figures['device']}, {run.figures['versions']}", flush=True)
    if run.figures["versions"]["flashinfer-python"] == "not installed":
        print("FlashInfer is not installed: nothing is compared with it")
    for row in Plan(QWEN, BATCH, PREFIXES, NEW).rows(shapes(), QUICK):
        if not args.only or any(word in row.name for word in args.only):
            run.measure(row)
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
