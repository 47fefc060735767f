"""A whole run with a model that answers at once: what Troop itself costs, beside the tests that it must run anyway.

Baseline, in the same run: every test on every tree that the run executed, as bare processes with the same concurrency.

    python -m tests.bench.bench_run [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bot.contracts import Follow, Sandbox
from bot.journal import FileJournal
from bot.publish.messages.reason import reason
from bot.records import Checkout, Execution, Issue, Message, Outcome, SandboxJob
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.models import Models
from bot.solver.pipeline import solve
from bot.solver.workbench import Workbench
from tests.fakes import FakeProgress, advance
from tests.scripted import ScriptedModel

SOURCE = '''def clamp(value, low, high):
    """The value, kept between low and high."""
    if value < low:
        return low
    if value > high:
        return low
    return value
'''
ISSUE = Issue(title="clamp ignores the upper bound", body="`clamp(5, 1, 3)` returns 1, but 3 is expected.")


def script(key: str, messages: Sequence[Message]) -> str:
    """Trajectory i writes a test of its own and one of several edits, one in two of them right."""
    index = int(found[0]) if (found := re.findall(r"trajectory/(\d+)/", key)) else 0
    if key.startswith("relevance"):
        return "<relevant>clamp</relevant>"
    if "/test/" in key:
        first = f'<test path="test_issue.py">\nfrom pkg.num import clamp\nassert clamp({5 + index}, 1, 3) == 3\n</test>'
        return first if len(messages) <= 2 else "<approve/>"
    if "/edit/" in key:
        right = "high" if index % 2 else f"high - {index + 1}"
        wrong = "    if value > high:\n        return "
        edit = f"<<<<<<< SEARCH\n{wrong}low\n=======\n{wrong}{right}"
        return f'<edit path="pkg/num.py">\n{edit}\n>>>>>>> REPLACE\n</edit>' if len(messages) <= 2 else "<done/>"
    return "<choose>1</choose>"


class Counting:
    """A sandbox that remembers what it ran."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.jobs: list[SandboxJob] = []

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        self.jobs.append(job)
        return await self.sandbox.run(job, follow)

    async def close(self) -> None:
        await self.sandbox.close()


async def whole_run(root: Path, trajectories: int) -> tuple[float, list[SandboxJob]]:
    """Seconds of one run from an issue to a verdict, and the jobs that it executed."""
    checkout = Checkout(root=str(root), workspace=str(root), commit="0" * 40, files=("pkg/__init__.py", "pkg/num.py"))
    model = ScriptedModel(script)
    sandbox = Counting(await open_sandbox(SandboxSettings(kind="process"), root, notice=lambda _: None))
    with tempfile.TemporaryDirectory() as scratch:
        journal = FileJournal(Path(scratch) / "journal.jsonl")
        started = time.perf_counter()
        settings = SolverSettings(trajectories=trajectories)
        bench = Workbench(checkout, Models(model, model), sandbox, settings)
        report = await solve(ISSUE, bench, journal, FakeProgress(), advance)
        seconds = time.perf_counter() - started
        journal.close()
    await sandbox.close()
    winner = report.verdict.winner
    if report.verdict.outcome is not Outcome.SOLVED or winner is None:
        raise SystemExit(f"no figure: the run ended as {report.verdict.outcome}: {reason(report)}")
    if "return high\n" not in report.verdict.ballot.candidates[winner].patch.diff:
        raise SystemExit("no figure: the run chose a wrong candidate")
    return seconds, sandbox.jobs


async def bare(root: Path, jobs: Sequence[SandboxJob]) -> float:
    """Seconds that the same tests take as bare processes, as many at once as the sandbox runs."""
    slots = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(tree: Path, job: SandboxJob) -> None:
        assert job.test is not None
        (tree / "pkg").mkdir(parents=True)
        (tree / "pkg" / "__init__.py").touch()
        (tree / "pkg" / "num.py").write_text(next((c.text or "" for c in job.changes), SOURCE))
        (tree / "test_issue.py").write_text(job.test.text)
        async with slots:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(tree / "test_issue.py"), cwd=tree, env={"PYTHONPATH": str(tree)},
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            await process.wait()

    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        tests = [job for job in jobs if job.test is not None]
        await asyncio.gather(*(one(Path(scratch) / str(i), job) for i, job in enumerate(tests)))
        return time.perf_counter() - started


async def measure(trajectories: int, repeats: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "pkg").mkdir()
        (root / "pkg" / "__init__.py").touch()
        (root / "pkg" / "num.py").write_text(SOURCE)
        runs, floors, jobs = [], [], 0
        for _ in range(repeats):
            seconds, executed = await whole_run(root, trajectories)
            runs.append(seconds)
            floors.append(await bare(root, executed))
            jobs = len(executed)
    run, floor = statistics.median(runs), statistics.median(floors)
    return {
        "trajectories": trajectories,
        "executions": jobs,
        "run_seconds": round(run, 3),
        "bare_seconds": round(floor, 3),
        "ratio": round(run / floor, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_run", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer trajectories, one repeat")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    sizes = ((4, 1),) if arguments.quick else ((4, 3), (16, 3), (64, 1))  # the largest executes thousands of tests
    figures = []
    for trajectories, repeats in sizes:
        row = asyncio.run(measure(trajectories, repeats))
        figures.append(row)
        print(
            f"{row['trajectories']:>3} trajectories, {row['executions']:>5} executions: run {row['run_seconds']} s, "
            f"the tests alone as bare processes {row['bare_seconds']} s, ratio {row['ratio']}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": figures}, indent=2))


if __name__ == "__main__":
    main()
