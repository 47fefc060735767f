"""The repository's own tests, on the untouched repository and on the best-voted candidates."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import PurePosixPath

from bot.contracts import Progress, Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.lifecycle import RunState
from bot.records import Ballot, Ending, Execution, OwnTests, OwnTestsReport, SandboxJob, Standing
from bot.sandbox.script_command import in_short
from bot.settings import SolverSettings
from bot.solver.ballot import credible, distinct_first, regressions

Command = tuple[str, ...]

PYTEST: Command = (
    *("python3", "-m", "pytest", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"),
    "--continue-on-collection-errors",  # else one file that can't be imported keeps all others from running
)
# Without the options of the configuration, which may need plugins that are not there (`--cov`).
PYTEST_ALONE: Command = (*PYTEST, "-o", "addopts=", "-o", "required_plugins=")
UNITTEST: Command = ("python3", "-m", "unittest", "discover", "-v")
WHERE = (
    "a `setup` command in .troop.toml or an image that holds it would bring it (Docker), or a .venv in the checkout "
    "(processes)"
)
ROUNDS = 3  # batches of candidates tried until one breaks nothing

_PYTHON_TEST = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|tests)\.py$")
_MAKE_TEST = re.compile(r"^test\s*:(?!=)", re.MULTILINE)
_NO_TEST_SCRIPT = "no test specified"  # what `npm init` writes

# How runners name a failing test. pytest: `FAILED a.py::b - why` and `ERROR a.py`; unittest: `FAIL: b (a.B.b)`;
# go: `--- FAIL: B`; cargo: `test a::b ... FAILED`; TAP: `not ok 1 - b`.
_FAILURES = (
    re.compile(r"^(?:FAILED|ERROR) (\S+?(?:\[.*?\])?)(?= - |$)", re.MULTILINE),
    re.compile(r"^(?:FAIL|ERROR): (\S+ \([^)]*\))", re.MULTILINE),
    re.compile(r"^\s*--- FAIL: (\S+)", re.MULTILINE),
    re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE),
    re.compile(r"^not ok \d+ - (.+?)\s*$", re.MULTILINE),
)


def detect(files: Sequence[str], read: Callable[[str], str | None]) -> tuple[Command, ...]:
    """Commands by which the repository's tests may be run, the likeliest first; none where it shows none. Pure.

    `files`: its paths; `read`: the text of a file that builds name, such as `package.json`.
    """
    names = set(files)
    found: list[Command] = []
    if any(_PYTHON_TEST.search(path) for path in files):
        found += [PYTEST, PYTEST_ALONE, UNITTEST]
    if "Cargo.toml" in names:
        found.append(("cargo", "test", "--offline", "--no-fail-fast"))
    if "go.mod" in names and any(path.endswith("_test.go") for path in files):
        found.append(("go", "test", "./..."))
    if "package.json" in names and _has_test_script(read("package.json") or ""):
        found.append(("npm", "test", "--silent"))
    makefile = next((name for name in ("GNUmakefile", "makefile", "Makefile") if name in names), None)
    if makefile and _MAKE_TEST.search(read(makefile) or ""):
        found.append(("make", "test"))
    if any(PurePosixPath(path).suffix == ".rb" and path.startswith("spec/") for path in files):
        found.append(("rspec",))
    return tuple(found)


def _has_test_script(text: str) -> bool:
    try:
        script = json.loads(text)["scripts"]["test"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(script, str) and _NO_TEST_SCRIPT not in script


def failing(execution: Execution) -> tuple[str, ...] | None:
    """The failing tests that the runner's output names; () where all passed; None where it names none.

    None too where output was left out or the run did not end by itself: a list with holes proves nothing.
    """
    if execution.passed:
        return ()
    if execution.ending is not Ending.EXITED or execution.truncated:
        return None
    for pattern in _FAILURES:
        names = dict.fromkeys(pattern.findall(execution.output))
        if names:
            return tuple(names)
    return None


def _absent(command: Command, execution: Execution) -> str:
    """Why nothing was tested, in words: the runner is not there, or refuses its own configuration; else ""."""
    output = execution.output
    if execution.ending is Ending.UNAVAILABLE:
        return execution.tail(1, 200) or execution.status
    if "No module named pytest" in output:
        return f"pytest is not in the sandbox; {WHERE}"
    if execution.exit_code == 5 and "no tests ran" in output:
        return execution.tail(1, 200)
    if execution.exit_code == 4 and command[:3] == PYTEST[:3]:  # a usage error, or a conftest.py that can't be imported
        told = [line.strip() for line in output.splitlines() if re.search(r"error\b", line, re.IGNORECASE)]
        return (told[-1] if told else execution.tail(1, 200))[:200]
    ran = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    errors = re.search(r"^FAILED \(errors=(\d+)(?:, skipped=\d+)?\)", output, re.MULTILINE)
    summary = re.search(r"^=*\s*(\d+ errors? in [\d.]+s.*?)\s*=*$", output, re.MULTILINE)
    if ran and (int(ran[1]) == 0 or (errors and errors[1] == ran[1])):
        return f"{ran[0]}, {errors[1]} errors" if errors else ran[0]
    return summary[1] if summary else ""


async def on_base(commands: Sequence[Command], sandbox: Sandbox, settings: SolverSettings) -> OwnTestsReport:
    """The first of the commands that works, on the untouched repository; `note` says why none does.

    Needs no candidate: it may run while they are sampled. Raises `SandboxUnavailable`.
    """
    if not commands:
        return OwnTestsReport(note="are not known; a [test] command in .troop.toml would name them")
    said = ""
    for command in commands:
        base = await _run(sandbox, SandboxJob(command=command, timeout=settings.own_tests_timeout))
        why = "the sandbox failed" if base is None else _absent(command, base.execution)
        if base is None or why:
            said = said or f"could not be run ({in_short(command)}: {why})"
            continue
        report = OwnTestsReport(command=command, base=base)
        if not base.execution.passed and base.failures is None:
            how = base.execution.status
            return report.model_copy(
                update={"note": f"can't be compared: on the untouched repository they end with {how}"}
            )
        return report
    return OwnTestsReport(note=said)


async def run_own_tests(
    ballot: Ballot,
    standings: Sequence[Standing],
    base: Awaitable[OwnTestsReport],
    sandbox: Sandbox,
    settings: SolverSettings,
    progress: Progress,
) -> OwnTestsReport:
    """Run the command of `base`, what came of `on_base`, on the best credible candidates, of each behaviour first.

    Those are the ones that the selection chooses among. Where all of `settings.own_tests_candidates` break something,
    the next ones are tried, a few times. What could not be run is said in `note` and never counted. Raises
    `SandboxUnavailable`.
    """
    able = credible(standings, ballot)
    best = [standing.candidate for standing in distinct_first(able, ballot, len(able))]
    if not best:
        return OwnTestsReport(note="were not run: no candidate is credible without them")
    progress.update(RunState.SELECTION, 0, 0, "the repository's own tests")
    report = await base
    if report.note:
        return report
    for at in range(0, min(len(best), ROUNDS * settings.own_tests_candidates), settings.own_tests_candidates):
        batch = best[at : at + settings.own_tests_candidates]
        progress.update(RunState.SELECTION, at, len(best), "the repository's own tests")
        jobs = [
            SandboxJob(
                changes=ballot.candidates[c].patch.changes, command=report.command, timeout=settings.own_tests_timeout
            )
            for c in batch
        ]
        results = await asyncio.gather(*(_run(sandbox, job) for job in jobs))
        ran = tuple((c, result) for c, result in zip(batch, results, strict=True) if result is not None)
        report = report.model_copy(update={"candidates": report.candidates + ran})
        if any(not regressions(report, c, ballot.candidates[c].patch.paths) for c in batch):
            break
    return report


async def _run(sandbox: Sandbox, job: SandboxJob) -> OwnTests | None:
    """None where the sandbox failed at it."""
    try:
        execution = await sandbox.run(job)
    except SandboxUnavailable:
        raise
    except SandboxError:
        return None
    return OwnTests(execution=execution, failures=failing(execution))
