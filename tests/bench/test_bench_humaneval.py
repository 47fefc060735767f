import asyncio
from pathlib import Path

import pytest

from bot.evaluation.tasks import FunctionTask
from tests.bench import bench_humaneval
from tests.bench.bench_humaneval import figures_of, judge, main, summary

PROBLEM = FunctionTask(
    id="HumanEval/0",
    prompt="from typing import List\n\n\ndef double(x: int) -> List[int]:\n",
    entry_point="double",
    check="def check(candidate):\n    assert candidate(2) == [2, 2]\n",
)


def test_only_a_program_that_reaches_its_end_passes():
    replies = ["```python\ndef double(x):\n    return [x, x]\n```", "raise SystemExit(0)", "def double(x): return x"]
    verdicts = asyncio.run(judge([PROBLEM] * 3, [{"text": reply} for reply in replies]))
    assert [verdict["passed"] for verdict in verdicts] == [True, False, False]
    assert "AssertionError" in verdicts[2]["output"]


def test_the_floor_is_a_goal_of_the_table():
    records = [
        {"task_id": str(i), "passed": i < 7, "tokens": 10, "finish": "length" if i == 9 else "stop"} for i in range(10)
    ]
    figures = figures_of(records, 5.0)
    assert (figures["pass_at_1"], figures["passed"], figures["cut_short"]) == (70.0, 7, 1)
    assert figures["tokens_per_second"] == 20.0
    assert figures["failed"] == ["7", "8", "9"]
    assert summary(figures, None) == []
    assert summary(figures, 69.0)[0]["ratio"] > 1


def test_it_is_left_out_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(bench_humaneval, "MODELS", tmp_path)
    assert main(["--json", str(tmp_path / "figures.json")]) == 0
    assert "make models" in capsys.readouterr().out
    assert not (tmp_path / "figures.json").exists()
