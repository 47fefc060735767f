"""`make acceptance`: plant bugs in real packages, solve them, report. Interrupted, it goes on where it was.

python -m tests.acceptance [--model NAME|PATH] [--bugs N] [--trajectories N] [--seed 1] [--at-once N] [--readme]
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.errors import TroopError
from bot.evaluation.planting.bugs import Bug, plant
from bot.evaluation.planting.packages import Package, fetch, split
from bot.journal import FileJournal
from bot.llm.bundled_engine import configured_engine
from bot.llm.published_models import locate
from bot.sandbox import open_sandbox
from bot.sandbox.journaled import JournaledSandbox
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from bot.solver.models import Models, open_models
from bot.solver.profile import resolve
from tests.acceptance import figures, matrices, readme, results
from tests.acceptance.packages import PINNED
from tests.acceptance.results import Head, Results
from tests.acceptance.solving import solve_bug, write_tree

ROOT = Path(__file__).parent.parent.parent
SPARE = 2  # bugs planted beyond a package's share, where another package has too few
PER_MODULE = 5
# Bugs, trajectories, and bugs at once: of the bundled model or an endpoint, and of a real model in Troop's own engine,
# which takes minutes a bug on a CPU and computes several of them together in little more time than one.
MANY, FEW = (30, 64, 1), (10, 16, 3)
MATRIX_SECONDS = 60.0  # a bug; bounds the whole where a model writes 64 different tests and patches


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


async def plant_all(number: int, seed: int, out: Path) -> list[tuple[Bug, Package]]:
    """The list of bugs, spread evenly over the packages. What was observed is kept below `out`, by seed."""
    share = -(-number // len(PINNED))
    found: list[list[tuple[Bug, Package]]] = []
    for pinned in PINNED:
        texts = await asyncio.to_thread(fetch, f"{pinned.name}=={pinned.version}", out / "packages")
        package = split(pinned, texts)
        tree = out / "trees" / f"{pinned.name}-{pinned.version}"
        write_tree(package.files, tree)
        sandbox = await open_sandbox(SandboxSettings(kind="process"), tree, notice=lambda _: None)
        journal = FileJournal(out / f"planting-{pinned.name}-{pinned.version}-{seed}.jsonl")
        try:
            bugs = await plant(package, JournaledSandbox(sandbox, journal), share + SPARE, PER_MODULE, seed)
        finally:
            journal.close()
            await sandbox.close()
        say(f"{pinned.name} {pinned.version}: {len(bugs)} bugs planted")
        found.append([(bug, package) for bug in bugs])
    # one of each package in turn, so that a part of the list is balanced too
    turns = [column[i] for i in range(share + SPARE) for column in found if i < len(column)]
    return turns[:number]


async def run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    engine = Settings(_env_file=None, engine_model="" if arguments.model_url else arguments.model)  # type: ignore[call-arg]
    if engine.engine_model:
        locate(engine.engine_model, engine.models_dir)  # before minutes are spent on planting
    bugs = await plant_all(arguments.bugs, arguments.seed, out)
    if len(bugs) < arguments.bugs:
        say(f"only {len(bugs)} of the {arguments.bugs} bugs could be planted")
        return 1
    found = None
    if not arguments.model_url:
        earlier = out.glob(f"results-*-{arguments.trajectories}-{arguments.seed}.jsonl")
        found = results.finished(earlier, arguments.model, [bug.id for bug, _ in bugs])
    report(found or await solved(bugs, arguments, engine), arguments)
    return 0


async def solved(bugs: Sequence[tuple[Bug, Package]], arguments: argparse.Namespace, engine: Settings) -> Results:
    """All bugs, those that are done in the model's results file, and the others solved now."""
    out: Path = arguments.out
    async with contextlib.AsyncExitStack() as stack:
        url = arguments.model_url
        if not url:
            url = await stack.enter_async_context(configured_engine(engine, out / "engine.log", say))
        solver = SolverSettings(
            trajectories=arguments.trajectories,
            seed=arguments.seed,
            test_timeout=10.0,
            matrix_seconds=MATRIX_SECONDS,
            examples=False,  # the documentation's examples are what judges here
        )
        named = arguments.model if arguments.model_url else ""
        main = ModelSettings(base_url=url, name=named, api_key=os.environ.get("OPENAI_API_KEY", "none"))
        settings = Settings(_env_file=None, main=main, relevance=ModelSettings(), solver=solver)  # type: ignore[call-arg]
        models = await stack.enter_async_context(open_models(settings))
        name = models.main.name.replace("/", "-")
        head = Head(asked=arguments.model, model=name, how=figures.words(resolve(solver, models.main)))
        path = out / f"results-{name}-{arguments.trajectories}-{arguments.seed}.jsonl"
        found = results.begun(path, head, [bug.id for bug, _ in bugs])
        done = {record["id"] for record in found.records}
        if done:
            say(f"going on: {len(done)} of {len(bugs)} bugs are done in {path.name}")
        waiting = [(bug, package) for bug, package in bugs if bug.id not in done]
        await solve_all(waiting, models, solver, found, arguments.at_once)
    return found


async def solve_all(
    waiting: Sequence[tuple[Bug, Package]], models: Models, solver: SolverSettings, found: Results, at_once: int
) -> None:
    """Solve what is not done, `at_once` side by side; each record is added to `found` at once."""
    records, work = found.records, found.path.parent / "work"
    started, before, total = time.monotonic(), len(records), len(records) + len(waiting)
    shutil.rmtree(work, ignore_errors=True)
    queue = iter(enumerate(waiting))

    async def worker() -> None:
        for number, (bug, package) in queue:
            folder = work / str(number)
            record = await solve_bug(bug, package, models, solver, folder, say)
            shutil.rmtree(folder, ignore_errors=True)
            found.add(record)
            each = (time.monotonic() - started) / (len(records) - before)
            say(f"{len(records)}/{total} {line(record)}; {each * (total - len(records)) / 60:.0f} min left")

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def line(record: dict[str, Any]) -> str:
    """One bug's result."""
    solving = sum(len(c["trajectories"]) for c in record["candidates"] if c["solves"])
    chosen = record["winner"]
    end = record["outcome"]
    if chosen is not None:
        end = "right" if record["candidates"][chosen]["solves"] else "wrong"
    seconds = record["seconds"] + record["judging_seconds"]
    return f"{record['id']}: {solving}/{record['samples']} solve it, {end}, {seconds:.0f} s"


def report(found: Results, arguments: argparse.Namespace) -> None:
    """Print the table; write figures, plot and snippet beside the results, and into the README if asked for."""
    base = str(found.path).removesuffix(".jsonl")  # `with_suffix` would cut a model's name with dots in it
    measured = figures.measure(found.records)
    command = "python -m tests.acceptance" + (f" --model {arguments.model}" if arguments.model else "")
    command += f" --bugs {arguments.bugs} --trajectories {arguments.trajectories} --seed {arguments.seed}"
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    text = figures.snippet(measured, command, f"{found.head.model} ({found.head.how})", machine)
    plot = Path(f"{base}.png")
    Path(f"{base}.json").write_text(json.dumps(measured, indent=2) + "\n")
    Path(f"{base}.md").write_text(text)
    figures.plot(measured, plot)
    matrices.write(Path(f"{base}.matrices.jsonl"), found.records)
    print(f"\n{text}\n{base}.md, .png and .json hold it, .matrices.jsonl the votes.")
    if arguments.readme:
        readme.put(ROOT, found.head.model, text, plot)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance", description=(__doc__ or "").splitlines()[0])
    many, few = ", ".join(map(str, MANY)), ", ".join(map(str, FEW))
    parser.epilog = f"Bugs, trajectories and bugs at once are {many} by default; {few} with --model."
    parser.add_argument("--bugs", type=int)
    parser.add_argument("--trajectories", type=int)
    parser.add_argument("--at-once", type=int, help="bugs that are solved side by side")
    parser.add_argument("--seed", type=int, default=1, help="of the bugs and of the sampling")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "acceptance")
    parser.add_argument("--model-url", default="", help="OpenAI-compatible API; default: the bundled engine and model")
    parser.add_argument(
        "--model",
        default="",
        help="a published model (`troop models`), a GGUF file or a checkpoint's folder for Troop's own engine; with "
        "--model-url the name of its model, else the first that it lists",
    )
    parser.add_argument("--readme", action="store_true", help="write the figures into the README and docs/")
    arguments = parser.parse_args()
    defaults = FEW if arguments.model and not arguments.model_url else MANY
    for name, default in zip(("bugs", "trajectories", "at_once"), defaults, strict=True):
        if (value := getattr(arguments, name)) is None:
            setattr(arguments, name, default)
        elif value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(run(arguments))
    except TroopError as error:
        print(f"tests.acceptance: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
