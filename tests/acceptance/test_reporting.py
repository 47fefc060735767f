import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.errors import EndpointError
from bot.evaluation.planting.bugs import Bug, plant
from bot.evaluation.selectors import by_any, by_ours, read_matrices
from bot.lifecycle import RunState
from bot.records import Message
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.models import Models
from tests.acceptance import __main__ as command
from tests.acceptance import matrices
from tests.acceptance.figures import measure, plot, snippet, table, wall_seconds
from tests.acceptance.readme import with_block
from tests.acceptance.recount import at, part, selected, solving, winner
from tests.acceptance.results import Head, Results, begun, finished, read
from tests.acceptance.solving import Told, ballot_of, solve_bug, write_tree
from tests.bench.bench_selection import lines_of
from tests.bot.evaluation.planting.tiny import TINY
from tests.patience import PATIENCE
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
    assert selected(record(), 8) == (1.0, 1.0)
    right, covered = selected(record(), 1, draws=200)
    assert 0 < right <= covered < 0.6
    assert selected(record(candidates=[], cells=[], winner=None), 4) == (0.0, 0.0)


def test_coverage_is_unbiased_and_selection_never_above_it_on_the_whole() -> None:
    records = [record(), record("q:b.py:g:2", candidates=[], cells=[], winner=None, outcome="abstained")]
    rows = at(records, [1, 8, 16])
    assert [row["k"] for row in rows] == [1, 8]
    assert rows[0]["coverage"] == pytest.approx((3 / 8 + 0) / 2)
    assert rows[1] == {"k": 8, "coverage": 0.5, "selected": 0.5, "precision": 1.0}
    assert all(row["precision"] <= 1 for row in rows), "both are of the same draws"
    assert at(records[1:], [4])[0]["precision"] is None
    assert solving(records[0]) == 3


def test_figures_table_plot_and_snippet(tmp_path: Path) -> None:
    figures = measure([record(), record("q:b.py:g:2", outcome="abstained", winner=None)])
    assert figures["packages"] == {"p": 1, "q": 1}
    assert figures["runs_right"] == 1
    assert [row["k"] for row in figures["curve"]] == [1, 2, 4, 8]
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


HEAD = Head(asked="qwen2.5-1.5b", model="qwen2.5-1.5b", how="profile full")


def test_a_results_file_cut_off_by_a_kill_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(record()) + "\n" + json.dumps(record("q"))[:50])
    found = begun(path, HEAD, ["q", "p:a.py:f:1"])
    assert found.records == [record()]
    found.add(record("q"))
    assert read(path) == (HEAD, {"p:a.py:f:1": record(), "q": record("q")})
    assert begun(tmp_path / "none.jsonl", HEAD, ["q"]).records == []


def test_finished_results_say_themselves_what_solved_the_bugs(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    found = begun(path, HEAD, [])
    found.add(record())
    assert finished([path], HEAD.asked, ["p:a.py:f:1"]) == found
    assert finished([path], HEAD.asked, ["p:a.py:f:1", "q"]) is None
    assert finished([path], "another", ["p:a.py:f:1"]) is None
    path.write_text(json.dumps(record()) + "\n")  # of an earlier version
    assert finished([path], HEAD.asked, ["p:a.py:f:1"]) is None


def test_a_model_with_dots_in_its_name_keeps_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- acceptance other -->\n<!-- /acceptance other -->\nend\n")
    arguments = argparse.Namespace(bugs=1, trajectories=8, seed=1, model="qwen2.5-1.5b", readme=True)
    command.report(Results(tmp_path / "results-qwen2.5-1.5b-8-1.jsonl", HEAD, [record()]), arguments)
    made = {path.name for path in tmp_path.glob("results*")}
    assert made == {f"results-qwen2.5-1.5b-8-1.{ending}" for ending in ("json", "md", "png", "matrices.jsonl")}
    text = (tmp_path / "README.md").read_text()
    assert "`python -m tests.acceptance --model qwen2.5-1.5b --bugs 1 --trajectories 8 --seed 1`" in text
    assert "model qwen2.5-1.5b (profile full)" in text
    assert text.endswith("(docs/acceptance-qwen2.5-1.5b.png)\n<!-- /acceptance qwen2.5-1.5b -->\nend\n")
    assert (tmp_path / "docs" / "acceptance-qwen2.5-1.5b.png").exists()


def test_matrices_are_written_for_the_selection_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, out = tmp_path / "results-x-8-1.jsonl", tmp_path / "x.jsonl.gz"
    nothing = record("q:b.py:g:2", candidates=[], cells=[], winner=None, outcome="abstained")
    results.write_text("".join(json.dumps(one) + "\n" for one in (record(), nothing)) + json.dumps(record("r"))[:40])
    monkeypatch.setattr("sys.argv", ["matrices", str(results), "--out", str(out)])
    assert matrices.main() == 0
    assert "1 matrices of 2 bugs" in capsys.readouterr().out
    first = out.read_bytes()
    assert matrices.main() == 0
    assert out.read_bytes() == first, "the same file each time"
    (found,) = read_matrices(lines_of(out))
    assert found.matrix.samples.tolist() == [3, 3]
    assert (by_ours(found.matrix), by_any(found.matrix)) == (1, 1)
    monkeypatch.setattr("sys.argv", ["matrices", str(tmp_path / "absent")])
    assert matrices.main() == 1


def test_a_models_block_takes_the_place_of_its_last_one() -> None:
    text = "a\n<!-- acceptance x -->\nold\n<!-- /acceptance x -->\n\nb\n"
    once = with_block(text, "x", "new\n")
    assert once == text.replace("old", "new")
    both = with_block(once, "y.z", "\\1 other\n")
    assert both == once.replace("\n\nb", "\n\n<!-- acceptance y.z -->\n\\1 other\n<!-- /acceptance y.z -->\n\nb")
    assert with_block(both, "y.z", "\\1 other\n") == both
    with pytest.raises(ValueError, match="no <!-- acceptance"):
        with_block("nothing", "x", "new")


def test_bugs_that_are_solved_side_by_side_count_once_in_the_time() -> None:
    spans = [record(began=10.0, ended=20.0), record(began=12.0, ended=30.0), record(began=100.0, ended=101.0)]
    assert wall_seconds([*spans, record()]) == 21.0 + 2.0


def test_a_bug_that_takes_long_is_not_silent() -> None:
    said: list[str] = []
    Told("p:f", said.append).update(RunState.CONTEXT, 1, 2)
    assert said == []
    Told("p:f", said.append, quiet=0.0).update(RunState.CONTEXT, 1, 2)
    assert said == ["p:f: reading files 1/2"]


async def test_bugs_are_solved_some_at_once_and_stored_as_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0

    async def solve(bug: Bug, *rest: object) -> dict[str, Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if bug.id == "broken":
            raise EndpointError("gone")
        return record(bug.id)

    monkeypatch.setattr(command, "solve_bug", solve)
    waiting: list[Any] = [(SimpleNamespace(id=name), TINY) for name in ("a", "b", "c", "d", "broken")]
    model = ScriptedModel(lambda key, messages: "")
    found = begun(tmp_path / "results", HEAD, [])
    with pytest.raises(EndpointError, match="gone"):
        await command.solve_all(waiting, Models(model, model), SolverSettings(), found, 2)
    assert most == 2
    assert list(read(found.path)[1]) == [r["id"] for r in found.records] == ["a", "b", "c", "d"]


def test_a_model_that_is_not_there_is_told_before_bugs_are_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TROOP_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["acceptance", "--model", "smollm2-135m", "--out", str(tmp_path / "out")])
    assert command.main() == 1
    assert "make models" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


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
    solver = SolverSettings(trajectories=6, seed=1, test_timeout=PATIENCE, profile="full")
    made = await solve_bug(bug, TINY, Models(model, model), solver, tmp_path / "work")
    made = json.loads(json.dumps(made))  # as it is read back
    assert made["shown"] == ["tiny/calc.py"]
    right = [c for c in made["candidates"] if c["solves"]]
    assert [c["trajectories"] for c in right] == [[0, 3]]
    assert made["outcome"] == "solved"
    assert made["candidates"][made["winner"]]["solves"]
    assert solving(made) == 2
    assert selected(made, 6) == (1.0, 1.0)
    assert bug.check.text[-200:] not in " ".join(m.content for call in model.calls for m in call.messages)
    assert made["began"] < made["ended"]
    arguments = argparse.Namespace(bugs=1, trajectories=6, seed=1, model="", readme=False)
    command.report(Results(tmp_path / "results.jsonl", HEAD, [made]), arguments)
    assert "| 6 | 100.0% | 100.0% | 100% |" in (tmp_path / "results.md").read_text()
    assert "2/6 solve it, right" in command.line(made)
