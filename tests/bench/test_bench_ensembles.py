"""What the benchmark of ensembles says of members whose strength is known."""

import json
from pathlib import Path

import pytest

from bot.evaluation.ensembles import read_pooled
from tests.bench import bench_ensembles as bench


def task(number: int) -> str:
    """Each of two members solves every second task with half of its samples; a test tells right code from wrong."""
    first = number % 2
    candidates = [{"size": 20, "passes": "01"[solves], "solves": bool(solves)} for solves in (0, 1)]
    samples = [0, 1, 0, 1, 0, 0, 0, 0] if first else [0, 0, 0, 0, 0, 1, 0, 1]
    whose = {"names": ["a", "b"], "samples": [4, 4], "tests": [[], []], "others": [0, 0]}
    row = {
        "task": f"t/{number}",
        "samples": samples,
        "candidates": candidates,
        "test_copies": [2],
        "passes_on_stub": "0",
    }
    return json.dumps(row | {"members": whose})


ROWS = [task(i) for i in range(12)]


def test_members_that_solve_different_tasks_are_better_together() -> None:
    figures = bench.measure(list(map(read_pooled, ROWS)), draws=20)
    assert figures["solved by any sample of"] == {"both": 0, "the first alone": 6, "the second alone": 6, "none": 0}
    rows = figures["4 samples"]
    assert [rows[name]["chosen"]["value"] for name in ("a", "b")] == [0.5, 0.5]
    assert rows["2 of each"]["chosen"]["value"] == pytest.approx(5 / 6, abs=0.05), "one of two samples, of four"
    assert rows["gain over the best"]["chosen"]["value"] == pytest.approx(1 / 3, abs=0.05)
    assert rows["a"]["random"]["value"] == pytest.approx(0.25)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a+b.jsonl").write_text("\n".join(ROWS))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["bench", "--data", str(tmp_path), "--quick", "--json", str(out)])
    assert bench.main() == 0
    assert "12 tasks; any sample solves: {'both': 0" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["a+b.jsonl"]["members"] == ["a", "b"]
