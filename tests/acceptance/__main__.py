"""`make acceptance`: plant bugs in real packages, solve them, report. Interrupted, it goes on where it was.

python -m tests.acceptance [--bugs 30] [--trajectories 64] [--seed 1] [--out DIR] [--model-url URL [--model NAME]]
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
from pathlib import Path
from typing import Any

from bot.engine_process import bundled_engine
from bot.journal import FileJournal, JournaledSandbox
from bot.pipeline import open_models
from bot.sandbox import open_sandbox
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from tests.acceptance import figures
from tests.acceptance.packages import PINNED, Package, fetch
from tests.acceptance.planting import Bug, plant
from tests.acceptance.solving import solve_bug, write_tree

ROOT = Path(__file__).parent.parent.parent
SPARE = 2  # bugs planted beyond a package's share, where another package has too few
PER_MODULE = 5
MATRIX_SECONDS = 60.0  # a bug; bounds the whole where a model writes 64 different tests and patches


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


async def plant_all(number: int, seed: int, out: Path) -> list[tuple[Bug, Package]]:
    """The list of bugs, spread evenly over the packages. What was observed is kept below `out`, by seed."""
    share = -(-number // len(PINNED))
    found: list[list[tuple[Bug, Package]]] = []
    for pinned in PINNED:
        package = await asyncio.to_thread(fetch, pinned, out / "packages")
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
    bugs = await plant_all(arguments.bugs, arguments.seed, out)
    if len(bugs) < arguments.bugs:
        say(f"only {len(bugs)} of the {arguments.bugs} bugs could be planted")
        return 1
    async with contextlib.AsyncExitStack() as stack:
        url = arguments.model_url
        if not url:
            say("starting the bundled engine")
            url = await stack.enter_async_context(bundled_engine(out / "engine.log"))
        solver = SolverSettings(
            trajectories=arguments.trajectories, seed=arguments.seed, test_timeout=10.0, matrix_seconds=MATRIX_SECONDS
        )
        main = ModelSettings(base_url=url, name=arguments.model, api_key=os.environ.get("OPENAI_API_KEY", "none"))
        settings = Settings(_env_file=None, main=main, relevance=ModelSettings(), solver=solver)  # type: ignore[call-arg]
        models = await stack.enter_async_context(open_models(settings))
        name = models.main.name.replace("/", "-")
        results = out / f"results-{name}-{arguments.trajectories}-{arguments.seed}.jsonl"
        done = read_results(results)
        records = [done[bug.id] for bug, _ in bugs if bug.id in done]
        if records:
            say(f"going on: {len(records)} of {len(bugs)} bugs are done in {results.name}")
        started, fresh = time.monotonic(), 0
        for bug, package in bugs:
            if bug.id in done:
                continue
            folder = out / "work"
            shutil.rmtree(folder, ignore_errors=True)
            record = await solve_bug(bug, package, models, solver, folder)
            with results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            records.append(record)
            fresh += 1
            left = len(bugs) - len(records)
            eta = (time.monotonic() - started) / fresh * left
            say(f"{len(records)}/{len(bugs)} {line(record)}; {eta / 60:.0f} min left")
    report(records, arguments, name, results.with_suffix(""))
    return 0


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Finished bugs by id. A line cut off by a kill is dropped."""
    found = {}
    kept = []
    for text in path.read_text().splitlines(keepends=True) if path.exists() else []:
        try:
            record = json.loads(text)
        except ValueError:
            continue
        found[record["id"]] = record
        kept.append(text if text.endswith("\n") else text + "\n")
    if path.exists():
        path.write_text("".join(kept))
    return found


def line(record: dict[str, Any]) -> str:
    """One bug's result."""
    solving = sum(len(c["trajectories"]) for c in record["candidates"] if c["solves"])
    chosen = record["winner"]
    end = record["outcome"]
    if chosen is not None:
        end = "right" if record["candidates"][chosen]["solves"] else "wrong"
    seconds = record["seconds"] + record["judging_seconds"]
    return f"{record['id']}: {solving}/{record['samples']} solve it, {end}, {seconds:.0f} s"


def report(records: list[dict[str, Any]], arguments: argparse.Namespace, model: str, base: Path) -> None:
    """Print the table; write figures, plot and snippet beside the results."""
    found = figures.measure(records)
    command = (
        f"python -m tests.acceptance --bugs {arguments.bugs} --trajectories {arguments.trajectories} "
        f"--seed {arguments.seed}"
    )
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    text = figures.snippet(found, command, model, machine)
    base.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    base.with_suffix(".md").write_text(text)
    figures.plot(found, base.with_suffix(".png"))
    print(f"\n{text}\n{base.with_suffix('.md')}, .png and .json hold it.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bugs", type=int, default=30, help="at least 30 is what the README speaks of")
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1, help="of the bugs and of the sampling")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "acceptance")
    parser.add_argument("--model-url", default="", help="OpenAI-compatible API; default: the bundled engine and model")
    parser.add_argument("--model", default="", help="its model's name; default: the first that it lists")
    parser.add_argument("--engine", action="store_true", help="the bundled engine, as without --model-url")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(run(arguments))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
