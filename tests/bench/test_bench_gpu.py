"""The run on a GPU, where there is none: its order, its file, its ratios; and the engine's rows on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import bench_gpu
from tests.bench.attention_trees import shapes
from tests.bench.bench_gpu import QUICK, Plan, Row, Run, summary

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def broken() -> dict[str, Any]:
    raise RuntimeError("out of memory")


def wrong() -> dict[str, Any]:
    raise ArithmeticError("ours: 0.3 off the reference")


def test_a_row_that_fails_or_has_no_time_left_is_named_and_the_others_come(tmp_path: Path):
    file = tmp_path / "gpu.json"
    run = Run({"device": "a GPU"}, file, limit=100)
    run.measure(Row("first", 1, lambda: {"figure": 1}))
    assert json.loads(file.read_text())["rows"]["first"]["figure"] == 1, "written after every row"
    run.measure(Row("second", 1, broken))
    assert not run.wrong
    run.measure(Row("third", 1000, lambda: {"figure": 3}))
    run.measure(Row("fourth", 1, lambda: {"figure": 4}))
    run.measure(Row("fifth", 1, wrong))
    assert run.wrong
    found = json.loads(file.read_text())
    assert set(found["rows"]) == {"first", "fourth"}
    assert found["failed"] == {
        "second": "RuntimeError: out of memory",
        "fifth": "ArithmeticError: ours: 0.3 off the reference",
    }
    assert found["skipped"] == ["third"]
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


def test_the_most_telling_rows_come_first_and_fit():
    rows = list(Plan({"1.5B": {}, "7B": {}}, 1024, (16_384, 1024), 128).rows(shapes(), QUICK))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert len([name for name in names if name.startswith("attention")]) == len(shapes())
    assert names.index("engine, 7B, 1024 over 1024, no attention") < names.index(f"others, {QUICK[0].name}")
    telling = rows[: len(QUICK) + 8]
    assert sum(row.seconds for row in telling) <= 8 * 60, "even where every estimate comes true"


def test_the_engines_rows_on_a_tiny_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.bench.engine_gpu.place", lambda: torch.device("cpu"))
    run = Run({}, None, limit=1000)
    for row in Plan({"tiny": TINY}, 3, (40, 20), 9).rows([], []):
        run.measure(row)
    assert not run.figures["failed"]
    rows = run.figures["rows"]
    assert list(rows)[:2] == ["engine, tiny, 3 over 40", "engine, tiny, 3 over 40, no attention"]
    assert len(rows) == 5
    assert all(row.get("steps", 2) == 2 for row in rows.values())
    goals = {(row["name"], row["goal"]) for row in run.figures["summary"]}
    assert ("engine, tiny, 3 over 40", ">= 0.9") in goals
    assert ("engine, tiny, 3 over 40", ">= 0.95") in goals
    assert ("engine, tiny, 2 over 32", "") in goals


def test_ratios():
    times = {"floor": 1e-4, "ours": 2e-4, "ours, in a graph": 1.25e-4, "flashinfer cascade": 4e-4}
    rows: dict[str, Any] = {
        "attention, a": {"seconds": times},
        "others, a": {"seconds": times},
        "others, b": {"seconds": times | {"flashinfer cascade": "flashinfer is not installed"}},
        "engine, 7B, 1024 over 16384": {"tokens_per_second": 95.0},
        "engine, 7B, 1024 over 1024": {"tokens_per_second": 100.0},
        "engine, 7B, 1024 over 16384, no attention": {"tokens_per_second": 100.0},
        "generate, 7B, 2 over 8": {"engine_tokens_per_second": 30.0, "generate_tokens_per_second": 10.0},
    }
    found = [(row["name"], round(row["ratio"], 3)) for row in summary(rows)]
    assert found == [
        ("attention, a", 0.8),
        ("attention, a", 2.0),
        ("attention, geometric mean", 2.0),
        ("engine, 7B, 1024 over 16384", 0.95),
        ("engine, 7B, 1024 over 16384", 0.95),
        ("engine, 7B, 2 over 8", 3.0),
    ]


def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench_gpu.main(["--json", str(tmp_path / "gpu.json")]) == 0
    assert "no GPU here" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
