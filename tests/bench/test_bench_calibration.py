import json
from pathlib import Path

import numpy as np
import pytest

from bot.evaluation.selectors import read_matrices
from bot.settings import SolverSettings
from bot.solver.confidence import WEIGHTS
from tests.bench import bench_calibration as bench
from tests.bench.test_bench_selection import ROWS


def test_a_fit_finds_the_weights_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.ones(40_000), rng.normal(3.0, 2.0, 40_000), rng.normal(size=40_000)])
    true = np.array([-1.0, 0.5, -0.25])
    right = (rng.random(40_000) < 1 / (1 + np.exp(-(rows @ true)))).astype(float)
    assert bench.fit(rows, right) == pytest.approx(true, abs=0.05)


def test_a_constant_column_and_one_outcome_do_not_break_it() -> None:
    found = bench.fit(np.column_stack([np.ones(9), np.full(9, 2.0)]), np.ones(9))
    assert np.isfinite(found).all()


def test_every_choice_is_read_by_a_fit_that_did_not_see_its_task() -> None:
    figures = bench.measure(read_matrices(ROWS), quick=True)
    assert figures["choices"] == sum(part["choices"] for part in figures["reliability"])
    assert len(figures["weights"]) == len(WEIGHTS)
    learned = {(row["off"], row["labels"]): row["error"] for row in figures["learning"]}
    assert all(learned[off, 10] < learned[off, 0] for off in (-1.5, 1.5)), "labels bring it nearer where it is far off"
    assert all(0 <= way["error"] <= 1 and 0 <= way["brier"] <= 1 for way in figures["ways"].values())
    kept = [row["kept"] for row in figures["at most wrong"]]
    assert kept == sorted(kept, reverse=True)


def test_a_threshold_keeps_what_is_sure_enough() -> None:
    found = bench.threshold(np.array([0.9, 0.8, 0.2]), np.array([1.0, 0.0, 1.0]), 0.2)
    assert found == {"limit": 0.2, "kept": 2 / 3, "wrong": 0.5, "right kept": 0.5}
    assert bench.threshold(np.array([0.1]), np.array([1.0]), 0.2)["wrong"] == 0.0


def test_sizes_reach_from_the_least_to_all() -> None:
    rng = np.random.default_rng(0)
    drawn = {bench.between(4, 10, rng) for _ in range(500)}
    assert drawn == set(range(4, 11))
    assert bench.between(4, 2, rng) == 2


def test_the_default_shift_is_the_least_that_recorded_runs_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    runs = bench.show_runs()["runs"]
    assert SolverSettings().confidence_shift == round(runs["least shift"], 1)
    assert len(runs["models"]) > 1
    for row in runs["models"].values():
        before, after = (abs(row[name] - row["right"]) for name in ("expected", "expected with it"))
        assert after < before, "what another model's runs ask for brings it nearer"
    assert "right, expected" in capsys.readouterr().out
    for way in runs["together"].values():
        assert 0 < way["by chance"] < 0.2
        assert way["by chance"] == pytest.approx(way["by chance, tasks together"], abs=0.02), "one run a bug"
        assert way["enough"] >= sum(row["choices"] for row in runs["models"].values()), "fewer could not show it"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set.jsonl").write_text("\n".join(ROWS))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path), "--quick", "--json", str(out)])
    assert bench.main() == 0
    assert "calibration error" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["set.jsonl"]["tasks"] == 20
