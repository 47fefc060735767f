import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.pipeline import Models
from bot.records import Message
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from tests.acceptance import __main__ as command
from tests.acceptance.figures import measure, plot, powers, snippet, table
from tests.acceptance.planting import Bug, plant
from tests.acceptance.recount import at, part, selected, solving, winner
from tests.acceptance.solving import ballot_of, solve_bug, write_tree
from tests.acceptance.tiny import TINY
from tests.scripted import ScriptedModel


def record(name: str = "p:a.py:f:1", **changes: Any) -> dict[str, Any]:
    """Eight trajectories: 0 to 2 solve, 3 to 5 err alike and have a test that errs with them, 6 and 7 wrote nothing."""
    made = {
        "id": name,
        "samples": 8,
        "candidates": [
            {"diff": "+right\n", "trajectories": [0, 1, 2], "disqualified": "", "solves": True},
            {"diff": "+wrong\n", "trajectories": [3, 4, 5], "disqualified": "", "solves": False},
        ],
        "tests": [
            {"authors": [0, 1, 2, 6], "text": "a"},
            {"authors": [3, 4], "text": "b"},
            {"authors": [7], "text": "c"},
        ],
        "base": "..+",
        "cells": ["+.+", ".++"],
        "outcome": "solved",
        "winner": 0,
        "reason": "",
        "seconds": 1.5,
        "judging_seconds": 0.5,
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    return made | changes


def test_a_part_is_the_ballot_of_fewer_trajectories() -> None:
    ballot = ballot_of(record())
    small, rows = part(ballot, {4, 6})
    assert rows == [1]
    assert [c.trajectories for c in small.candidates] == [(4,)]
    assert [t.text for t in small.tests] == ["a", "b"]
    assert small.authors == ((6,), (4,))
    assert small.cells == ((False, True),)
    assert part(ballot, range(8))[0].cells == ballot.cells
    assert part(ballot, {7})[0].candidates == ()


def test_recounting_knows_who_would_have_won() -> None:
    ballot = ballot_of(record())
    assert winner(ballot) == 0
    assert winner(part(ballot, {3, 4})[0]) == 0  # the only one left, row 1
    assert winner(part(ballot, {3})[0]) == 0  # one trajectory may stand on its own test
    assert winner(part(ballot, {5, 6})[0]) is None
    assert selected(record(), 8) == 1.0
    assert 0 < selected(record(), 1, draws=200) < 0.6
    assert selected(record(candidates=[], cells=[], winner=None), 4) == 0.0


def test_coverage_is_unbiased_and_selection_never_above_it_on_the_whole() -> None:
    records = [record(), record("q:b.py:g:2", candidates=[], cells=[], winner=None, outcome="abstained")]
    rows = at(records, [1, 8, 16])
    assert [row["k"] for row in rows] == [1, 8]
    assert rows[0]["coverage"] == pytest.approx((3 / 8 + 0) / 2)
    assert rows[1] == {"k": 8, "coverage": 0.5, "selected": 0.5}
    assert solving(records[0]) == 3


def test_figures_table_plot_and_snippet(tmp_path: Path) -> None:
    figures = measure([record(), record("q:b.py:g:2", outcome="abstained", winner=None)])
    assert figures["packages"] == {"p": 1, "q": 1}
    assert figures["runs_right"] == 1
    assert [row["k"] for row in figures["curve"]] == powers(8) == [1, 2, 4, 8]
    assert powers(10) == [1, 2, 4, 8, 10]
    assert "| 1 | 37.5% |" in table(figures)
    assert "| 8 | 100.0% | 100.0% | 100% |" in table(figures)
    text = snippet(figures, "python -m tests.acceptance", "m", "4 cores")
    assert "2 planted one-line bugs (1 in p, 1 in q)" in text
    assert "1 ended in a pull request, 1 of them right" in text
    plot(figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_solved_is_a_result_too(tmp_path: Path) -> None:
    figures = measure([record(candidates=[], cells=[], winner=None, outcome="abstained")])
    assert figures["law"] is None
    assert "| 8 | 0.0% | 0.0% | - |" in table(figures)
    plot(figures, tmp_path / "plot.png")


def test_a_results_file_cut_off_by_a_kill_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(record()) + "\n" + json.dumps(record("q"))[:50])
    assert set(command.read_results(path)) == {"p:a.py:f:1"}
    assert path.read_text() == json.dumps(record()) + "\n"
    assert command.read_results(tmp_path / "none.jsonl") == {}


def model_of(bug: Bug) -> ScriptedModel:
    """Mends the bug in every third trajectory, else writes the line otherwise; its tests are the issue's example."""
    call = "is_small(10)"

    def reply(key: str, messages: Sequence[Message]) -> str:
        if key.startswith("relevance/"):
            return "<relevant>it</relevant>" if key.endswith("calc.py") else "<irrelevant/>"
        if key.startswith("ranking/"):
            return f"<ranking>\n{bug.path}\n</ranking>"
        number, step = int(key.split("/")[1]), key.split("/")[-1]
        if "/test/" in key:
            script = f"from tiny.calc import is_small\nassert {call} is False, {call}"
            return f'<test path="t.py">\n{script}\n</test>' if step == "1" else "<approve/>"
        if step != "1":
            return "<done/>"
        line = bug.mutation.before if number % 3 == 0 else f"    return limit + {number}"
        return (
            f'<edit path="{bug.path}">\n<<<<<<< SEARCH\n{bug.mutation.after}\n=======\n{line}\n>>>>>>> REPLACE\n</edit>'
        )

    return ScriptedModel(reply)


async def tiny_bug(folder: Path) -> Bug:
    write_tree(TINY.files, folder)
    sandbox = await open_sandbox(SandboxSettings(kind="process"), folder, notice=lambda _: None)
    try:
        bugs = await plant(TINY, sandbox, 3, 3, 1)
    finally:
        await sandbox.close()
    return next(bug for bug in bugs if bug.function == "is_small")


@pytest.mark.slow
async def test_a_bug_goes_through_the_whole_pipeline(tmp_path: Path) -> None:
    bug = await tiny_bug(tmp_path / "original")
    model = model_of(bug)
    solver = SolverSettings(trajectories=6, seed=1, test_timeout=10.0, profile="full")
    made = await solve_bug(bug, TINY, Models(model, model), solver, tmp_path / "work")
    made = json.loads(json.dumps(made))  # as it is read back
    assert made["shown"] == ["tiny/calc.py"]
    right = [c for c in made["candidates"] if c["solves"]]
    assert [c["trajectories"] for c in right] == [[0, 3]]
    assert made["outcome"] == "solved"
    assert made["candidates"][made["winner"]]["solves"]
    assert solving(made) == 2
    assert selected(made, 6) == 1.0
    assert bug.check.text[-200:] not in " ".join(m.content for _, messages, _ in model.calls for m in messages)
    arguments = argparse.Namespace(bugs=1, trajectories=6, seed=1)
    command.report([made], arguments, "scripted", tmp_path / "results")
    assert "| 6 | 100.0% | 100.0% | 100% |" in (tmp_path / "results.md").read_text()
    assert "2/6 solve it, right" in command.line(made)
