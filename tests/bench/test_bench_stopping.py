import json
from pathlib import Path

import numpy as np
import pytest

from bot.evaluation.selectors import read_matrices
from bot.records import StopRule
from bot.solver.stopping import Seen, Stopping
from tests.bench import bench_stopping as bench
from tests.bench.test_bench_selection import ROWS


def test_all_samples_lose_nothing_and_fewer_cost_less() -> None:
    figures = bench.measure(read_matrices(ROWS), orders=2)["rules"]
    assert figures["fixed, 32"]["lost"] == 0
    assert [figures[f"fixed, {n}"]["samples"] for n in (4, 8, 32)] == [4, 8, 15]  # a task has 15 samples
    assert figures["first-finish"]["samples"] <= figures["consensus 3"]["samples"]
    assert figures["consensus 3"]["samples"] <= figures["consensus 6"]["samples"] <= 15


def test_whole_runs_are_as_large_as_recorded_and_all_of_them_lose_nothing() -> None:
    tasks = read_matrices(ROWS)
    figures = bench.whole_runs(tasks, 2, np.random.default_rng(0))
    rules = figures["rules"]
    assert figures["samples"] == np.mean([len(task.candidate) for task in tasks])
    assert (rules["all"]["share"], rules["all"]["lost"]) == (1.0, 0.0)
    assert 0.4 < rules["half"]["share"] < 0.6
    assert set(bench.RULES) < set(rules)


def test_a_choice_says_what_tells_it_apart_and_how_many_patches_are_new() -> None:
    (task, *_) = read_matrices(ROWS)
    passing = task.matrix.passes * task.matrix.voting
    one, test = (int(place[0]) for place in np.nonzero(passing))
    alone = bench.choose(task, np.array([one, one]), np.array([test])).seen
    assert (alone.apart, alone.new) == (False, 0.0), "one patch, made twice"
    other = int(np.flatnonzero(passing[:, test] == 0)[0])
    two = bench.choose(task, np.array([one, one, other]), np.array([test])).seen
    assert (two.apart, two.new) == (True, pytest.approx(1 / 3))


def test_a_choice_is_made_from_what_was_drawn_alone() -> None:
    (task, *_) = read_matrices(ROWS)
    chosen = bench.choose(task, np.array([7, 7, 9]), np.array([0, 1]))
    assert chosen.candidate in (7, 9)
    assert chosen.samples == 3


def test_a_rule_stops_where_it_says() -> None:
    alike = {4: 1.0, 8: 3.0, 12: 9.0, 16: 9.0}
    history = {n: bench.Chosen(0, n, Seen(votes=1.0, alike=found, sure=found / 10)) for n, found in alike.items()}
    assert bench.stop(Stopping(StopRule.CONSENSUS, 3), history).samples == 8
    assert bench.stop(Stopping(StopRule.CONSENSUS, 99), history).samples == 16
    assert bench.stop(Stopping(StopRule.FIRST_FINISH), history).samples == 4
    assert bench.stop(Stopping(StopRule.POSTERIOR, 0.3), history).samples == 8
    assert bench.stop(Stopping(StopRule.POSTERIOR, 0.8), history).samples == 16, "it does not look after 12"


def test_the_shortest_are_taken_and_what_is_broken_off_is_paid_for() -> None:
    (task, *_) = read_matrices(ROWS)
    rng = np.random.default_rng(0)
    all_taken, cost = bench.short(task, 99, 99, rng)
    assert (all_taken.samples, cost) == (len(task.candidate), pytest.approx(len(task.candidate)))
    some, less = bench.short(task, 3, 8, rng)
    assert some.samples == 3
    assert 3 * task.matrix.sizes.min() <= less * task.matrix.sizes[task.candidate].mean() <= 8 * task.matrix.sizes.max()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set.jsonl").write_text("\n".join(ROWS))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path), "--quick", "--json", str(out)])
    assert bench.main() == 0
    assert "20 tasks" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["set.jsonl"]["tasks"] == 20
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path / "nowhere")])
    assert bench.main() == 2
