"""The run on a GPU, where there is none: its order, its file, its ratios; rows that fail in each way; and all rows
once, on tiny sizes, with a GPU that is simulated.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.run.runner import RunOptions
from kernels.tree_attention.calibrate import Grid, measure
from kernels.tree_attention.heads import Heads
from tests.bench import bench_gpu, gpu_timing
from tests.bench.attention_trees import Shape, shapes
from tests.bench.bench_gpu import Run
from tests.bench.gpu_rows import FIRST, Experts, Measured, Plan, Row
from tests.bench.gpu_summary import summary
from tests.bench.gpu_worker import RowError, Worker
from tests.bench.recurrent_steps import Step
from tests.bench.simulated_gpu import FLASHINFER, SimulatedGpu
from tests.bench.summary import rows as summary_rows
from tests.bench.summary import table
from tests.engine.kinds.tiny import SIZES
from tests.kernels.interpreting import DEVICE, interpret
from tests.patience import PATIENCE

interpret()

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
TREES = [Shape(name, ((1, 16), *more), 2, 3, Heads(2, 1, 16, 4)) for name, more in (("one", []), ("two", [(2, 16)]))]
TREES.append(Shape("latents", ((1, 16),), 2, 3, Heads(2, 1, 48, 4, shared=32)))


STATES = (("hidden_size", 32), *((name, size) for name, size in SIZES.items() if name.startswith("linear_")))
KIMI = (("hidden_size", 32), ("linear_head_dim", 16), ("linear_num_heads", 2))
NEMOTRON = (
    ("hidden_size", 32),
    ("mamba_num_heads", 4),
    ("mamba_head_dim", 16),
    ("ssm_state_size", 16),
    ("n_groups", 2),
)
SPACES = (Step("nemotron_h", 2, NEMOTRON), Step("jamba", 2, (("hidden_size", 32),)))
LAYERS = (Experts(3, 4, 2, 64, 32),), (Step("qwen3_next", 3, STATES), Step("kimi_linear", 1, KIMI), *SPACES)


class InPlace(Worker):
    """Rows in this process."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self._inside = rows

    def run(self, name: str, limit: float, most: float) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._inside.run(name)
        except Exception as error:
            raise RowError(f"{type(error).__name__}: {error}", isinstance(error, ArithmeticError)) from error
        return found


def row(name: str, seconds: float = 1) -> Row:
    return Row(name, seconds, dict)


@pytest.fixture
def worker() -> Any:
    made = Worker("tests.bench.toy_rows:toys")
    yield made
    made.close()


def test_a_row_that_fails_or_has_no_time_left_is_named_and_the_others_come(tmp_path: Path, worker: Worker):
    file = tmp_path / "gpu.json"
    run = Run({"device": "a GPU"}, file, 10 * PATIENCE, worker)
    run.measure(row("right"))
    assert json.loads(file.read_text())["rows"]["right"]["runs"] == 1, "written after every row"
    run.measure(row("out of memory"))
    assert not run.wrong
    run.measure(row("too long", 100 * PATIENCE))
    run.measure(row("wrong"))
    assert run.wrong
    found = json.loads(file.read_text())
    assert set(found["rows"]) == {"right"}
    assert found["failed"] == {
        "out of memory": "RuntimeError: out of memory",
        "wrong": "ArithmeticError: ours: 0.3 off the reference",
    }
    assert found["skipped"] == ["too long"]
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


@pytest.mark.parametrize(
    ("name", "words", "stays"),
    [
        ("out of memory", "RuntimeError: out of memory", True),
        ("breaks", "RuntimeError: breaks", False),
        ("crashes", "ended with -6", False),
    ],
)
def test_rows_after_one_that_fails_are_measured_in_a_process_that_works(
    worker: Worker, name: str, words: str, stays: bool
):
    first = worker.run("right", PATIENCE, PATIENCE)
    with pytest.raises(RowError, match=words):
        worker.run(name, PATIENCE, PATIENCE)
    second = worker.run("right", PATIENCE, PATIENCE)
    assert (second["process"] == first["process"]) == stays


def test_a_row_that_hangs_is_ended():
    worker = Worker("tests.bench.toy_rows:toys", start=0)
    with pytest.raises(RowError, match="no answer in time"):
        worker.run("hangs", 0.2, 0.2)
    assert worker._process is None
    assert worker.run("right", PATIENCE, PATIENCE)["runs"] == 1
    with pytest.raises(RowError, match="no answer in time"):  # the run's end comes first
        worker.run("hangs", PATIENCE, 0.2)
    worker.close()


def test_the_most_telling_rows_come_first_and_fit():
    rows = list(Plan({"1.5B": {}, "7B": {}}).rows(shapes(), FIRST))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert len([name for name in names if name.startswith("attention")]) == len(shapes())
    assert names[len(FIRST)] == "engine, 7B, 1024 over 16384"
    telling = rows[: len(FIRST) + 12]
    assert telling[-1].name.startswith("engine, 1.5B")
    assert sum(row.seconds for row in telling) <= 8 * 60, "even where every estimate comes true"


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    from tests.bench.attention_gpu import calibrated

    monkeypatch.setattr(gpu_timing, "gpu", SimulatedGpu())
    monkeypatch.setattr("engine.model.backends.measure", functools.partial(measure, grid=Grid((2,), (16, 32), 1)))
    monkeypatch.setitem(sys.modules, "flashinfer", FLASHINFER)
    monkeypatch.setattr("tests.bench.engine_gpu.RunOptions", functools.partial(RunOptions, steady=2))
    monkeypatch.setattr("tests.bench.engine_gpu.WARM", 1)
    monkeypatch.setattr("kernels.tree_attention.buffers.SIMULATED", 2)
    calibrated.cache_clear()
    yield
    calibrated.cache_clear()


@pytest.mark.skipif(DEVICE == "cuda", reason="there the real run is made")
def test_all_rows_once(simulated: Any, tmp_path: Path):
    plan = Plan({"small": TINY}, ((3, 20), (1, 20)), 5, (2, 16, 3), ((2, 8, 5),), LAYERS)
    measured = Measured(plan, TREES, TREES[:1])
    run = Run({}, tmp_path / "gpu.json", 1000, InPlace(measured))
    for each in plan.rows(TREES, TREES[:1]):
        run.measure(each)
    assert not run.figures["failed"]
    assert not run.figures["skipped"]
    rows = run.figures["rows"]
    assert list(rows)[:2] == ["attention, one", "engine, small, 3 over 20"]
    assert len(rows) == 3 + 2 + 4 + 1 + 1 + 1 + 2
    for name, found in rows.items():
        if name.startswith("engine"):
            assert found["steps"] == found["no_attention"]["steps"] >= 1
            assert found["replays"] >= found["steps"]
            assert (found["overtaking"] > 0) == (" 3 over" in name)
            assert 0 <= found["host_hidden"] <= 1
        if name.startswith("others"):
            kinds = {other: type(seconds) for other, seconds in found["seconds"].items()}
            assert kinds.pop("torch varlen") is str, "it needs a GPU, and says so"
            assert set(kinds.values()) == {float}, found
    assert {(line["name"].partition(",")[0], line["goal"]) for line in run.figures["summary"]} == {
        ("attention", ">= 0.7"),
        ("attention", ">= 1.0"),
        ("attention", ">= 1.5"),
        ("engine", ">= 0.85"),
        ("engine", ">= 1.0"),
        ("engine", ""),
        ("experts", ""),
        ("delta rule", ""),
        ("state space", ""),
    }
    assert "FlashInfer's cascade" in table(summary_rows("gpu", run.figures))


@pytest.mark.skipif(DEVICE == "cuda", reason="there the real run is made")
def test_a_kernel_that_is_wrong_has_no_times(simulated: Any, monkeypatch: pytest.MonkeyPatch):
    from tests.bench import attention_gpu

    right = attention_gpu.tree_attention
    monkeypatch.setattr(attention_gpu, "tree_attention", lambda *args: (right(*args)[0] * 1.03, None))
    with pytest.raises(ArithmeticError, match="off it on one"):
        attention_gpu.ours(attention_gpu.Bed(TREES[0]), attention_gpu.Rates(1.0, 1.0))


def test_ratios():
    times = {"floor": 1e-4, "ours": 2e-4, "ours, in a graph": 1.25e-4, "flashinfer cascade": 4e-4}
    step = {"step_milliseconds": 20.0, "tokens_per_second": 51_200.0, "attention_floor_milliseconds": 4.0}
    floors = {"plain": 1e-4, "fp8": 8e-5}
    rule = {"ours": 2e-4, "torch": 1e-3, "layer": 4e-4, "layer, copied": 5e-4}
    host = {"host_hidden": 0.95, "host_milliseconds": 5.0}
    rows: dict[str, Any] = {
        "attention, a": {"seconds": times},
        "others, a": {"seconds": times},
        "others, b": {"seconds": times | {"flashinfer cascade": "flashinfer is not installed"}},
        "engine, 7B, 1024 over 16384": step | host | {"no_attention": {"step_milliseconds": 14.0}},
        "engine, 7B, 256 over 1024": step | {"no_attention": "RuntimeError: no memory"},
        "experts, 1 rows": {"seconds": {"plain": 2e-4, "fp8": 1e-4, "torch": 3e-4}, "floors": floors},
        "delta rule, a": {"seconds": rule | {"package": "not installed"}, "floor": 1e-4},
        "generate, 7B, 2 over 8": {"engine_tokens_per_second": 30.0, "generate_tokens_per_second": 10.0},
        "apart, 7B, 1 of 8": {"engine_tokens_per_second": 30.0, "compiled_tokens_per_second": 20.0},
        "apart, 7B, 8 of 8": {"engine_tokens_per_second": 30.0, "compiled_tokens_per_second": "RuntimeError"},
    }
    found = [(row["name"], round(row["ratio"], 3)) for row in summary(rows)]
    assert found == [
        ("attention, a", 0.8),
        ("attention, a", 2.0),
        ("attention, geometric mean", 2.0),
        ("engine, 7B, 1024 over 16384", 0.9),
        ("engine, 7B, 1024 over 16384, host", 0.95),
        ("experts, 1 rows, plain", 0.5),
        ("experts, 1 rows, fp8", 0.8),
        ("experts, 1 rows, plain", 1.5),
        ("delta rule, a", 0.5),
        ("delta rule, a", 5.0),
        ("delta rule, a, layer", 1.25),
        ("engine, 7B, 2 over 8", 3.0),
        ("engine, 7B, 1 of 8", 1.5),
    ]


def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench_gpu.main(["--json", str(tmp_path / "gpu.json")]) == 0
    assert "no GPU here" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
