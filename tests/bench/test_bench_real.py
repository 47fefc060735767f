import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import bench_real, timing
from tests.bench.bench_real import ROWS, figures_of, lack_of_llama, main, parse, shortfall, summary, words
from tests.bench.summary import rows
from tests.bench.timing import Timing, Watch


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch):
    """A second passes between two looks at it."""
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))


@pytest.mark.usefixtures("_clock")
def test_decoding_begins_when_all_have_their_first_token():
    watch = Watch(8)
    for _ in range(4):
        watch.mark()
    found = watch.read(32, [])
    assert found == Timing(1.0, 24, 3.0, [])
    assert found.rate(100) == 8.0


@pytest.mark.usefixtures("_clock")
def test_tokens_that_came_before_the_last_samples_first_one_are_not_decoding():
    watch = Watch(2)
    watch.mark(5)
    watch.mark(9)
    assert watch.read(9, []) == Timing(1.0, 4, 1.0, [])


@pytest.mark.usefixtures("_clock")
def test_one_token_alone_is_the_prompts_rate():
    watch = Watch(1)
    watch.mark()
    assert watch.read(1, []).rate(2048) == 2048.0


def test_a_row_has_medians_ratios_and_its_goal():
    found = figures_of(ROWS[3], {"engine": [100, 120, 500], "llama.cpp": [60, 50, 70], "generate": [10]})
    assert found["tokens_per_second"]["engine"] == {"median": 120, "min": 100, "max": 500}
    assert found["engine_over"] == {"llama.cpp": 2.0, "generate": 12.0}
    assert words(found) == (
        "decode, 64 samples: engine 120.0, llama.cpp 60.0 (x 2.00), generate 10.0 (x 12.00) tokens/s; "
        "goal >= 2 x llama.cpp"
    )
    table = rows("real", {"summary": summary([found])})
    assert [(row.ratio, row.met) for row in table] == [(2.0, True), (12.0, None)]


def test_a_row_without_llama_names_no_goal():
    assert words(figures_of(ROWS[0], {"engine": [300]})) == "prefill: engine 300.0 tokens/s"


class Fixed:
    """Logits that do not depend on the text: token 2 is best, token 1 half a logit behind."""

    def __call__(self, tokens: torch.Tensor, logits_to_keep: int) -> Any:
        logits = torch.tensor([0.0, 2.5, 3.0]).expand(1, logits_to_keep, 3)
        return type("Output", (), {"logits": logits})


def test_a_greedy_reply_may_only_be_nearly_the_best():
    assert shortfall(Fixed(), [0, 0], [2, 2]) == 0.0
    assert shortfall(Fixed(), [0, 0], [2, 1]) == 0.5


def test_a_folder_is_not_compared_with_llama(tmp_path: Path):
    assert "folder" in lack_of_llama(tmp_path, parse([]))
    assert lack_of_llama(tmp_path, parse(["--without", "llama.cpp"])) == "left out"


def test_it_is_left_out_without_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(bench_real, "MODELS", tmp_path)
    assert main(["--json", str(tmp_path / "figures.json")]) == 0
    assert "make models" in capsys.readouterr().out
    assert not (tmp_path / "figures.json").exists()
