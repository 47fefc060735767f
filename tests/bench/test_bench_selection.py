import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.evaluation.selectors import by_b4, by_codet, by_ours, by_votes, read_matrices
from tests.bench import bench_selection as bench
from tests.bench.summary import rows as summary_rows


def task(name: str, seed: int) -> dict[str, Any]:
    """A problem as models meet it: right candidates agree, wrong ones err apart, and many tests are wrong with them."""
    rng = np.random.default_rng(seed)
    tests, candidates = 20, []
    valid = rng.random(tests) < 0.5
    for i in range(12):
        solves = i < 4
        # the wrong ones share mistakes with the wrong tests
        passes = (
            valid if solves else np.where(valid, rng.random(tests) < 0.3, rng.random(tests) < (0.95 if i == 4 else 0.2))
        )
        size = 100 + i if solves else int(rng.integers(20, 400))
        candidates.append({"size": size, "passes": "".join("01"[int(p)] for p in passes), "solves": solves})
    return {
        "task": name,
        "samples": [0] * 3 + list(range(12)),
        "candidates": candidates,
        "test_copies": [1] * (tests - 1) + [3],
        "passes_on_stub": "0" * (tests - 1) + "1",
    }


ROWS = [json.dumps(task(f"t{i}", i)) for i in range(20)]


def test_ours_beats_plain_votes_where_tests_err_together() -> None:
    tasks = read_matrices(ROWS)
    figures = bench.measure(tasks, draws=2)
    whole = figures["all samples and tests"]
    assert whole["ours"]["mean"] > whole["votes"]["mean"] + 10
    assert whole["ours"]["mean"] >= whole["random"]["mean"] + 10
    assert whole["coverage"]["mean"] == 100
    for row in whole.values():
        assert row["low"] <= row["mean"] <= row["high"]


def test_what_breaks_something_is_left_out_where_that_is_known() -> None:
    rows = [json.loads(line) for line in ROWS]
    for row in rows:
        for candidate in row["candidates"]:
            candidate["breaks"] = candidate["solves"]
    figures = bench.measure(read_matrices(list(map(json.dumps, rows))), draws=2)
    assert figures["all samples and tests"]["ours, of what breaks nothing"]["mean"] == 0
    (published, right), (unbroken, none) = figures["winners"].values()
    assert none == 0 < right <= published == unbroken == len(ROWS)
    assert len(summary_rows("selection", {"set.jsonl": figures})) == 4, "two sizes beside votes and CodeT"


def test_choosing_never_looks_at_who_solves() -> None:
    flipped = []
    for line in ROWS:
        row = json.loads(line)
        for candidate in row["candidates"]:
            candidate["solves"] = not candidate["solves"]
        flipped.append(json.dumps(row))
    for a, b in zip(read_matrices(ROWS), read_matrices(flipped), strict=True):
        assert by_ours(a.matrix) == 1 - by_ours(b.matrix)
        for method in (by_votes, by_codet, by_b4):
            assert method(a.matrix) == pytest.approx(1 - method(b.matrix))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress("\n".join(ROWS).encode()))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path), "--quick", "--json", str(out)])
    assert bench.main() == 0
    assert "20 tasks" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["set.jsonl.gz"]["tasks"] == 20
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path / "nowhere")])
    assert bench.main() == 2
    assert "nothing was measured" in capsys.readouterr().out


def test_no_other_way_is_better_on_what_the_bundled_model_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its matrices are read beside those that the repository does not hold."""
    left = (bench.OWN / "capuchin.jsonl").read_text()
    for folder, name, text in (
        ("own", "capuchin.jsonl", left),
        ("functions", "functions.jsonl", "\n".join(ROWS[:10])),
        ("elsewhere", "elsewhere.jsonl", "\n".join(ROWS[10:])),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    monkeypatch.setattr(bench, "OWN", tmp_path / "own")
    monkeypatch.setattr(bench, "FUNCTIONS", tmp_path / "functions")
    monkeypatch.setattr(bench, "ANSWERS", tmp_path / "answers")
    monkeypatch.setenv(bench.VARIABLE, str(tmp_path / "elsewhere"))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--json", str(out)])
    assert bench.main() == 0
    found = json.loads(out.read_text())["figures"]
    assert set(found) == {"elsewhere.jsonl", "capuchin.jsonl", "functions.jsonl"}
    figures = found["capuchin.jsonl"]
    assert figures["tasks"] == len(left.splitlines())
    for size in ("all samples and tests", "10 samples, 10 tests"):
        shares = {
            name: row["mean"] for name, row in figures[size].items() if "gain" not in name and "breaks" not in name
        }
        assert shares["ours"] == max(share for name, share in shares.items() if name != "coverage")


def test_every_matrix_that_the_repository_holds_can_be_read() -> None:
    files = bench.find(bench.OWN) + bench.find(bench.FUNCTIONS)
    assert len(files) > 3
    for file in files:
        lines = bench.lines_of(file)
        assert 0 < len(read_matrices(lines)) <= len(lines), file


def test_answers_to_calls_that_no_test_makes_choose_better() -> None:
    [file] = bench.find(bench.ANSWERS)
    tasks = [[task.matrix] for task in bench.read_matrices(bench.lines_of(file))]
    told, untold = (bench.per_task(bench.METHODS[name], tasks) for name in ("ours", "ours, by tests alone"))
    assert (len(told), told.sum(), untold.sum()) == (39, 34, 33)
    assert (told >= untold).all()
