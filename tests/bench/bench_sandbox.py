"""What a sandbox costs: one test on one candidate, against the bare process in the same run.

    python -m tests.bench.bench_sandbox [--quick] [--json FILE]

The Docker sandbox is measured where an Engine answers and the test image can be had; PostgreSQL beside the test where
it is installed. Migrations (200 tables) run before each test, or once, as `prepare`.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bot.contracts import Sandbox
from bot.recipe import Recipe
from bot.recipe.services import with_services
from bot.records import FileChange, SandboxJob, Service, Test
from bot.repo_config import RepoConfig
from bot.sandbox.build import Plan
from bot.sandbox.pool import DockerSandbox
from bot.sandbox.process import ProcessSandbox
from bot.sandbox.pythons import find_python
from bot.settings import SandboxSettings
from tests import services_docker

SCRIPT = "from pkg import double\nassert double(21) == 42\n"
CANDIDATE = (FileChange(path="pkg.py", text="def double(x):\n    return 2 * x\n"),)
MIGRATE = "psql -q -h localhost -U app app_test -f tables.sql"
TABLES = "".join(f"create table t{number} (a int primary key, b text);\n" for number in range(200))
FILES = 300  # of the tree, besides one of 5 MB


def make_tree(root: Path) -> Path:
    root.mkdir()
    (root / "pkg.py").write_text("def double(x):\n    return x\n")
    for number in range(FILES):
        (root / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 50)
    (root / "tables.sql").write_text(TABLES)
    (root / "data.bin").write_bytes(os.urandom(5 << 20))
    return root


async def measure(run: Callable[[int], Awaitable[None]], *, repeats: int, concurrency: int) -> dict[str, float]:
    """Median milliseconds of one alone, and how many a second side by side."""
    await asyncio.gather(*(run(-1) for _ in range(concurrency)))  # warm: containers started, files cached
    alone = []
    for number in range(repeats):
        started = time.perf_counter()
        await run(number)
        alone.append(time.perf_counter() - started)
    started = time.perf_counter()
    slots = asyncio.Semaphore(concurrency)

    async def limited(number: int) -> None:
        async with slots:
            await run(number)

    await asyncio.gather(*(limited(number) for number in range(repeats * concurrency)))
    rate = repeats * concurrency / (time.perf_counter() - started)
    return {"median_ms": 1000 * statistics.median(alone), "worst_ms": 1000 * max(alone), "jobs_per_second": rate}


def in_sandbox(sandbox: Sandbox, before: str = "") -> Callable[[int], Awaitable[None]]:
    async def run(number: int) -> None:
        # Each script differs, as in a vote matrix.
        text = f"{before}{SCRIPT}# {number}\n"
        result = await sandbox.run(SandboxJob(test=Test(path="t.py", text=text), changes=CANDIDATE))
        assert result.passed, result

    return run


def bare(tree: Path, python: str) -> Callable[[int], Awaitable[None]]:
    """The baseline: `python3 SCRIPT` in a tree that has the change already, with nothing around it."""
    script = tree.parent / "t.py"
    script.write_text(SCRIPT)

    async def run(number: int) -> None:
        process = await asyncio.create_subprocess_exec(
            python, str(script), cwd=tree, stdout=subprocess.DEVNULL, env={"PYTHONPATH": str(tree), "PATH": os.defpath}
        )
        assert await process.wait() == 0

    return run


def _postgres(prepare: str = "") -> Recipe:
    services = (Service(kind="postgres", port=5432, user="app", databases=("app_test",)),)
    config = RepoConfig(services=services, prepare=prepare)
    return with_services(Recipe(), (), lambda path: None, config, installs=True)


async def bench(*, quick: bool) -> dict[str, Any]:
    repeats, concurrency = (10 if quick else 50), os.cpu_count() or 1
    settings = SandboxSettings(concurrency=concurrency, image=services_docker.IMAGE)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "tree")
        has_docker = services_docker.answers() and not services_docker.make_image()
        for beside, recipe in (("", Recipe()), (", PostgreSQL", _postgres())):
            process = await ProcessSandbox.open(settings, tree, recipe=recipe)
            name = f"process sandbox ({process.isolation.value}{beside})"
            if len(process.environment.services) == len(recipe.services):
                found[name] = await measure(in_sandbox(process), repeats=repeats, concurrency=concurrency)
            await process.close()
            if has_docker:
                docker = await DockerSandbox.open(settings, tree, plan=Plan(recipe, "troop/bench"))
                name = f"docker sandbox{beside}"
                found[name] = await measure(in_sandbox(docker), repeats=repeats, concurrency=concurrency)
                await docker.close()
        if has_docker:
            itself = f"import subprocess\nassert subprocess.run({MIGRATE.split()!r}).returncode == 0\n"
            for name, prepare, before in (("in each test", "", itself), ("prepared", MIGRATE, "")):
                docker = await DockerSandbox.open(settings, tree, plan=Plan(_postgres(prepare), "troop/bench"))
                run = in_sandbox(docker, before)
                found[f"..., 200 tables {name}"] = await measure(run, repeats=repeats, concurrency=concurrency)
                await docker.close()
        (tree / "pkg.py").write_text(CANDIDATE[0].text or "")
        python, _ = find_python(tree)
        baseline = await measure(bare(tree, python.executable), repeats=repeats, concurrency=concurrency)
    for figures in (baseline, *found.values()):
        figures["overhead_ms"] = figures["median_ms"] - baseline["median_ms"]
        figures["ratio"] = figures["median_ms"] / baseline["median_ms"]
    return {
        "what": "one test on one candidate",
        "command": "python -m tests.bench.bench_sandbox" + (" --quick" if quick else ""),
        "device": f"{platform.machine()}, {concurrency} processors, Linux {platform.release().split('-')[0]}",
        "repeats": repeats,
        "concurrency": concurrency,
        "results": {"bare python3 SCRIPT": baseline, **found},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_sandbox", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    figures = asyncio.run(bench(quick=options.quick))
    print(f"{figures['what']}: {figures['device']}; median of {figures['repeats']}; {figures['command']}")
    print(f"{'':40}{'median':>10}{'overhead':>10}{'ratio':>8}{'jobs/s at ' + str(figures['concurrency']):>14}")
    for name, row in figures["results"].items():
        print(
            f"{name:40}{row['median_ms']:7.1f} ms{row['overhead_ms']:7.1f} ms{row['ratio']:7.1f}x"
            f"{row['jobs_per_second']:14.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
