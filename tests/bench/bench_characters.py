"""How many characters of prompts a run sends with the model's own choice of files, against reading them all.

A scripted model stands in for a capable one: a file that mentions a name of the issue is relevant to it, it looks
around by real commands, and goes the usual way through both machines. Each look sends the whole conversation again, so
beside the characters sent stand those that an engine computes which keeps the prefixes it has seen, in blocks. What an
endpoint charges lies between the two. Baseline of both, in the same run: `TROOP_SOLVER_CONTEXT="read all"`, without
looks. The sources come from PyPI.

python -m tests.bench.bench_characters [--quick] [--json FILE] [--packages FOLDER]
"""

import argparse
import asyncio
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.contracts import Follow
from bot.errors import EvaluationError
from bot.evaluation.planting.packages import fetch, write_tree
from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.journal import MemoryJournal
from bot.records import Execution, Issue, Message, ModelCall, Outcome, SandboxJob
from bot.settings import SolverSettings
from bot.solver.models import Models
from bot.solver.pipeline import solve
from bot.solver.workbench import Workbench
from tests.fakes import FakeProgress, advance, exited
from tests.scripted import ScriptedModel

PACKAGES = Path(__file__).parent.parent.parent / "var" / "bench-packages"
BLOCK = 64  # characters of a block whose prefix an engine keeps: 16 tokens
TRAJECTORIES = 10
TRACEBACK = """Traceback (most recent call last):
  File "/tmp/troop/test/test_issue.py", line 6, in <module>
    assert seen == expected, seen
           ^^^^^^^^^^^^^^^^
AssertionError: wrong
"""
GOAL, AT_LOOKS = 0.5, 3  # of the baseline's characters, at so many replies of each machine that look around


@dataclass(frozen=True)
class Case:
    """A bug in a package: `right` in the file becomes `wrong`. `names`: what a relevant file mentions."""

    requirement: str
    path: str
    right: str
    wrong: str
    names: tuple[str, ...]
    issue: Issue
    test: str
    looks: tuple[tuple[str, ...], ...]  # the commands of each reply that looks around


CASES = (
    Case(
        requirement="werkzeug==3.1.9",
        path="src/werkzeug/http.py",
        right="    if not value_str:\n        return '\"\"'\n\n    if allow_token:",
        wrong="    if allow_token:",
        names=("quote_header_value", "dump_options_header", "dump_header"),
        issue=Issue(
            title="Empty parameter values are written without quotes",
            body="`dump_options_header` writes a parameter whose value is the empty string as `name=`, which no client "
            "parses back.\n\n```python\n>>> from werkzeug.http import dump_options_header\n"
            '>>> dump_options_header("attachment", {"filename": ""})\n\'attachment; filename=\'\n```\n\nI expected '
            '`attachment; filename=""`, since the grammar has no empty token. `quote_header_value` seems to let the '
            "empty string through, and `dump_header` of a dict with an empty value is wrong in the same way.",
        ),
        test="from werkzeug.http import dump_options_header\n\n"
        'seen = dump_options_header("attachment", {"filename": ""})\nprint("seen:", repr(seen))\n'
        "assert seen == 'attachment; filename=\"\"', seen\n",
        looks=(
            ("grep -rn 'quote_header_value' --include=*.py src", "sed -n 120,260p src/werkzeug/http.py"),
            ("grep -n '\"\"' tests/test_http.py | head -40", "sed -n 1,110p src/werkzeug/sansio/http.py"),
            ("sed -n 260,400p src/werkzeug/http.py", "grep -rn 'dump_header' --include=*.py src tests"),
        ),
    ),
    Case(
        requirement="networkx==3.6.1",
        path="networkx/algorithms/dag.py",
        right="    if not G.is_directed():\n        raise nx.NetworkXError("
        '"is_aperiodic not defined for undirected graphs")\n',
        wrong="",
        names=("is_aperiodic", "is_strongly_connected", "all_topological_sorts"),
        issue=Issue(
            title="is_aperiodic accepts undirected graphs",
            body="`is_aperiodic(nx.path_graph(3))` should raise `NetworkXError`, as its documentation says, but an "
            "undirected graph goes through to `is_strongly_connected`, which raises `NetworkXNotImplemented`.\n\n"
            "```python\n>>> import networkx as nx\n>>> nx.is_aperiodic(nx.path_graph(3))\n```\n\n"
            "Callers such as `all_topological_sorts` distinguish the two errors.",
        ),
        test="import networkx as nx\n\ntry:\n    nx.is_aperiodic(nx.path_graph(3))\nexcept Exception as error:\n"
        "    seen = type(error).__name__\nprint('seen:', seen)\nassert seen == 'NetworkXError', seen\n",
        looks=(
            ("grep -rn 'is_aperiodic' --include=*.py networkx", "sed -n 440,560p networkx/algorithms/dag.py"),
            ("grep -n 'raise' networkx/algorithms/dag.py", "sed -n 1,90p networkx/utils/decorators.py"),
            ("sed -n 1,120p networkx/exception.py", "grep -n 'aperiodic' -A12 networkx/algorithms/tests/test_dag.py"),
        ),
    ),
)


class Capable:
    """The script: what the model replies. `looks`: replies of each machine that look around first."""

    def __init__(self, case: Case, looks: int) -> None:
        self._case = case
        self._looks = looks

    def __call__(self, key: str, messages: Sequence[Message]) -> str:
        asked = messages[-1].content
        if key.startswith("listing"):
            names = self._case.names
            lines = [line for line in asked.splitlines() if re.match(r"[\w./-]+ \([\d,]+ lines?\)", line)]
            paths = [line.split(" (")[0] for line in lines if any(name in line for name in names)]
            return "\n".join(["<read>", *dict.fromkeys([self._case.path, *paths]), "</read>"])
        if key.startswith("relevance"):
            return self._relevant(asked)
        if key.startswith("ranking"):
            found = re.findall(r"^([\w./-]+): ", asked, re.MULTILINE)
            return "\n".join(["<ranking>", *sorted(found, key=lambda path: path != self._case.path), "</ranking>"])
        if key.startswith("trajectory"):
            return self._machine(key, sum(message.role == "assistant" for message in messages))
        if key.startswith("selection"):
            return "<choose>1</choose>"
        return "<cause>Such values went through.</cause>\n<change>They are told apart.</change>\n<check>nothing</check>"

    def _relevant(self, asked: str) -> str:
        files = re.findall(r'^<file path="([^"\n]+)"[^\n]*>\n(.*?)^</file>', asked, re.MULTILINE | re.DOTALL)
        verdicts = [(path, any(name in text for name in self._case.names)) for path, text in files]
        if len(files) == 1:
            return "<relevant>It has one of the names.</relevant>" if verdicts[0][1] else "<irrelevant/>"
        said = '<relevant path="{}">\nIt has one of the names.\n</relevant>'
        return "\n".join(said.format(path) if yes else f'<irrelevant path="{path}"/>' for path, yes in verdicts)

    def _machine(self, key: str, turn: int) -> str:
        index = int(key.split("/")[1])
        if turn < self._looks:
            return "\n".join(f"<run>{command}</run>" for command in self._case.looks[turn])
        first = turn == self._looks
        if "/test/" in key:
            text = f"# {index}\n{self._case.test}"
            return f'The fault shows there.\n<test path="test_issue.py">\n{text}</test>' if first else "<approve/>"
        said = f"    # as the grammar says ({index % 3})\n" if index % 3 else ""
        search = (
            self._case.wrong or '    if len(G) == 0:\n        raise nx.NetworkXPointlessConcept("Graph has no nodes.")'
        )
        right = said + self._case.right + ("" if self._case.wrong else search)
        blocks = f"<<<<<<< SEARCH\n{search}\n=======\n{right}\n>>>>>>> REPLACE"
        return f'<edit path="{self._case.path}">\n{blocks}\n</edit>' if first else "<done/>"


class Looking:
    """Runs commands that only read, once each, in the checkout. Tests are not run: they fail without a change.

    The repository's own suites take minutes and add next to nothing to prompts, so their runner is not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._printed: dict[tuple[str, ...], Execution] = {}

    async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
        if job.command and job.command[0] != "sh":
            return exited(127, f"{job.command[0]}: not found\n")
        if job.test is not None and not job.command:
            return exited(0, "seen: right\n") if job.changes else exited(1, f"seen: wrong\n{TRACEBACK}")
        if job.command not in self._printed:
            done = await asyncio.to_thread(
                subprocess.run, job.command, cwd=self._root, capture_output=True, text=True, errors="replace"
            )
            self._printed[job.command] = exited(done.returncode, done.stdout + done.stderr)
        return self._printed[job.command]

    async def close(self) -> None:
        """Nothing is kept."""


def computed(calls: Sequence[ModelCall]) -> int:
    """Characters that no earlier prompt began with, in whole blocks."""
    seen: set[bytes] = set()
    fresh = 0
    for call in calls:
        text = "".join(f"{message.role}\0{message.content}\0" for message in call.messages)
        digest = hashlib.sha256()
        for start in range(0, len(text), BLOCK):
            block = text[start : start + BLOCK]
            digest.update(block.encode("utf-8", "surrogatepass"))
            if digest.digest() not in seen:
                seen.add(digest.digest())
                fresh += len(block)
    return fresh


def by_stage(calls: Sequence[ModelCall]) -> dict[str, int]:
    """Characters of the prompts, by the first part of the calls' keys."""
    sizes: dict[str, int] = {}
    for call in calls:
        stage = call.key.partition("/")[0]
        sizes[stage] = sizes.get(stage, 0) + sum(len(message.content) for message in call.messages)
    return sizes


async def whole_run(case: Case, packages: Path, folder: Path, context: str, looks: int) -> dict[str, Any]:
    """The figures of one run."""
    texts = await asyncio.to_thread(fetch, case.requirement, packages)
    if texts[case.path].count(case.right) != 1:
        raise SystemExit(f"no figure: {case.requirement} has another {case.path}")
    write_tree(texts | {case.path: texts[case.path].replace(case.right, case.wrong)}, folder / "package")
    checkout = await check_out(LocalCheckout(folder / "package"), "", folder / "checkout")
    sandbox = Looking(Path(checkout.root))
    model = ScriptedModel(Capable(case, looks), context_window=200_000)
    settings = SolverSettings.model_validate({"context": context, "trajectories": TRAJECTORIES})
    bench = Workbench(checkout, Models(model, model), sandbox, settings)
    report = await solve(case.issue, bench, MemoryJournal(), FakeProgress(), advance)
    if report.verdict.outcome is not Outcome.SOLVED:
        raise SystemExit(f"no figure: the run of {case.requirement} ended as {report.verdict.outcome}")
    stages = by_stage(model.calls)
    shown = {"files": len(report.context.files), "file_tokens": report.context.tokens}
    return {"calls": len(model.calls), "sent": sum(stages.values()), "computed": computed(model.calls), **shown} | {
        "by_stage": stages
    }


def measure(case: Case, packages: Path, most: int) -> Iterator[dict[str, Any]]:
    """The baseline, then a run for each number of looks."""
    for context, looks in (("read all", 0), *(("listed", looks) for looks in range(most + 1))):
        with tempfile.TemporaryDirectory() as scratch:
            found = asyncio.run(whole_run(case, packages, Path(scratch), context, looks))
        yield {"package": case.requirement, "context": context, "looks": looks, **found}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `make bench`'s table: what is sent, which has the goal, and what is computed."""
    compared = [(row, kind) for row in rows if "ratio" in row for kind in ("sent", "computed")]
    return [
        {
            "name": f"characters {kind} by a run, {row['package'].partition('=')[0]}, {row['looks']} looks a machine",
            "figure": f"{row[kind]:,}",
            "baseline": f"all files read: {row['baseline'][kind]:,}",
            "ratio": row["ratio"][kind],
            "goal": f"<= {GOAL:g}" if kind == "sent" and row["looks"] <= AT_LOOKS else "",
        }
        for row, kind in compared
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_characters", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="without a look and with two alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="folder of the packages' sources")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in CASES:
        baseline: dict[str, int] = {}
        try:
            for row in measure(case, arguments.packages, AT_LOOKS if arguments.quick else len(case.looks)):
                if row["context"] == "read all":
                    baseline = {kind: row[kind] for kind in ("sent", "computed")}
                else:
                    ratios = {kind: round(row[kind] / most, 3) for kind, most in baseline.items()}
                    row |= {"baseline": baseline, "ratio": ratios}
                rows.append(row)
                ratio = f", of the baseline {row['ratio']}" if "ratio" in row else ""
                print(
                    f"{row['package']:<16} {row['context']:<9} {row['looks']} looks: {row['calls']:>4} calls, "
                    f"{row['sent']:>10,} characters sent, {row['computed']:>9,} computed{ratio}",
                    flush=True,
                )
        except EvaluationError as error:
            print(f"{case.requirement} is left out: {error}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "summary": summary(rows)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
