"""A run of a capable model over a repository of some size: list, read, look around, edit, compare, and resume."""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.journal import MemoryJournal
from bot.lifecycle import RunState
from bot.records import Checkout, Execution, Issue, Message, Outcome, Report, SandboxJob, TrajectoryEnd
from bot.settings import SolverSettings
from bot.solver.models import Models
from bot.solver.pipeline import solve
from bot.solver.workbench import Workbench
from tests.checkouts import checkout_of
from tests.fakes import PASSED, FakeProgress, FakeSandbox, exited, passes_on_edits
from tests.scripted import ScriptedModel

ISSUE = Issue(title="clamp ignores the upper bound", body="`clamp(5, 1, 3)` gives 1, expected 3.")
FAULTY = "src/mill/num.py"
NUM = "def clamp(value, low, high):\n    if value > high:\n        return low\n    return max(value, low)\n"
TEST = '<test path="t.py">\nfrom mill.num import clamp\nassert clamp({}, 1, 3) == 3\n</test>'
BLOCK = "<<<<<<< SEARCH\n        return low\n=======\n        return {}\n>>>>>>> REPLACE"
EDIT = f'<edit path="{FAULTY}">\n{BLOCK}\n</edit>'


class Killed(BaseException):
    """As SIGKILL is: nothing below catches it."""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    files = {f"src/mill/part{i}.py": f"def part{i}(value):\n    return value\n" for i in range(40)}
    files |= {
        FAULTY: NUM,
        "tests/test_num.py": "from mill.num import clamp\n\n\ndef test_low():\n    assert clamp(0, 1, 3) == 1\n",
        "AGENTS.md": "Run `make check`.\n",
        "Makefile": "check:\n\ttrue\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    return checkout_of(tmp_path)


def reply(key: str, messages: Sequence[Message]) -> str:
    """Trajectory 1 first breaks the repository's test, and mends that once it is told; trajectory 0 looks twice."""
    turn = sum(message.role == "assistant" for message in messages)
    if key.startswith("listing"):
        return f"<read>\n{FAULTY}\nsrc/mill/part3.py\n</read>"
    if key.startswith("relevance"):
        shown = re.findall(r'^<file path="([^"]+)"', messages[-1].content, re.MULTILINE)
        return "\n".join(
            f'<relevant path="{path}">\nclamp\n</relevant>' if path == FAULTY else f'<irrelevant path="{path}"/>'
            for path in shown
        )
    if key.startswith("selection"):
        return "<choose>1</choose>"
    index = int(key.split("/")[1])
    looks = [f"<run>grep -rn clamp src</run>\n<run>cat {FAULTY}</run>"] if index == 0 else []
    if "/test/" in key:
        steps = [*looks, TEST.format(5 + index), "<approve/>"]
    else:
        edits = [EDIT.format("high")] if index == 0 else [EDIT.format("BROKEN"), EDIT.format("min(high, value)")]
        steps = [*looks, *edits, "<done/>"]
    return steps[min(turn, len(steps) - 1)]


def answer(job: SandboxJob) -> Execution:
    words = " ".join(job.command)
    if "grep -rn clamp src" in words:
        return exited(0, f"{FAULTY}:1:def clamp(value, low, high):\n")
    if f"cat {FAULTY}" in words:
        return exited(0, NUM)
    if "pytest" in words:
        broken = any("BROKEN" in (change.text or "") for change in job.changes)
        return exited(1, "FAILED tests/test_num.py::test_low - no\n") if broken else PASSED
    return PASSED if job.command else passes_on_edits(job)


async def run(
    checkout: Checkout, journal: MemoryJournal, killed_at: str = ""
) -> tuple[Report, ScriptedModel, FakeSandbox]:
    async def until(state: RunState) -> None:
        if state == killed_at:
            raise Killed

    model, sandbox = ScriptedModel(reply), FakeSandbox(answer)
    seen.append((model, sandbox))
    bench = Workbench(checkout, Models(model, model), sandbox, SolverSettings(trajectories=2, profile="full"))
    return await solve(ISSUE, bench, journal, FakeProgress(), until), model, sandbox


seen: list[tuple[ScriptedModel, FakeSandbox]] = []


async def test_it_looks_around_and_mends_what_it_broke(checkout: Checkout) -> None:
    report, model, sandbox = await run(checkout, MemoryJournal())
    assert report.verdict.outcome is Outcome.SOLVED
    first, second = report.trajectories
    assert (first.end, second.end) == (TrajectoryEnd.DONE, TrajectoryEnd.DONE)
    assert (first.calls, second.calls) == (6, 5)
    assert "BROKEN" not in "".join(c.patch.diff for c in report.verdict.ballot.candidates)
    prompts = {call.key: call.messages[-1].content for call in model.calls}
    assert "def clamp(value, low, high)" in prompts["trajectory/0/test/2"]
    opening = prompts["trajectory/1/edit/1"]
    assert '<customs path="AGENTS.md">\nRun `make check`.\n</customs>' in opening
    assert '<file path="tests/test_num.py">' in opening
    assert "- tests/test_num.py::test_low\n" in prompts["trajectory/1/edit/2"]
    assert [file.path for file in report.context.files] == [FAULTY]
    assert report.context.considered < 10
    assert set(report.usage_by_stage) >= {"context", "trajectories"}
    jobs = Counter(job.key for job in sandbox.jobs)
    assert set(jobs.values()) == {1}, "nothing runs twice, whoever asks for it"


async def test_a_run_that_is_killed_anywhere_asks_and_runs_nothing_twice(checkout: Checkout) -> None:
    whole, _, _ = await run(checkout, MemoryJournal())
    journal = MemoryJournal()
    seen.clear()
    for stage in ("context", "trajectories", "matrix", "selection", ""):
        try:
            resumed, _, _ = await run(checkout, journal, stage)
        except Killed:
            continue
    assert resumed.verdict == whole.verdict
    assert resumed.trajectories == whole.trajectories
    asked = [key for model, _ in seen for key in model.keys]
    assert len(asked) == len(set(asked)) == whole.usage.calls
    ran = Counter(job.key for _, sandbox in seen for job in sandbox.jobs if "troop-survey" not in "".join(job.command))
    assert set(ran.values()) == {1}


async def test_a_trajectory_that_is_killed_amid_its_looks_goes_on(checkout: Checkout) -> None:
    """The journal of a run that was killed after each of its entries, one after the other."""
    full = MemoryJournal()
    whole, _, _ = await run(checkout, full)
    keys = [key for key in full.entries if "/0/" in key or key.startswith("sandbox/")]
    for number in range(0, len(keys), 3):
        cut = MemoryJournal()
        kept = set(keys[:number])
        cut.entries = {
            k: v for k, v in full.entries.items() if k in kept or k.startswith(("started", "survey", "context"))
        }
        resumed, _, _ = await run(checkout, cut)
        assert resumed.verdict == whole.verdict
