import json
from pathlib import Path

import pytest
import torch

from engine.model.in_pool import Advances
from kernels.delta_rule import reference as delta_rule
from kernels.state_space import reference as state_space
from tests.bench import bench_recurrent
from tests.bench.recurrent_steps import Bed, Step
from tests.bench.summary import rows
from tests.bench.test_bench_gpu import KIMI, SPACES, STATES

STEPS = [Step("qwen3_next", 3, STATES), Step("kimi_linear", 2, KIMI), *SPACES]
BY_KIND = {step.kind: step for step in STEPS}
RIGHT = Advances(delta_rule.advance, None, state_space.advance)
WRONG = Advances(
    lambda token, places: delta_rule.advance(token._replace(decay=token.decay * 1.5), places),
    None,
    lambda token, places: state_space.advance(token._replace(rate=token.rate * 1.5), places),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
@pytest.mark.parametrize("part", ["rule", "whole"])
@torch.inference_mode()
def test_both_ways_are_compared_before_they_are_timed(step: Step, part: str):
    bed = Bed(step, torch.device("cpu"), torch.float32)
    before = bed.state.clone()
    assert bed.error(part, RIGHT) < 1e-4
    assert not torch.equal(bed.state, before)
    assert bed.error(part, WRONG) > bench_recurrent.AGREED


def test_figures_and_their_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_recurrent, "Step", lambda kind, texts: BY_KIND[kind]._replace(texts=texts))
    monkeypatch.setattr(bench_recurrent, "advances_for", lambda device: RIGHT)
    monkeypatch.setattr(bench_recurrent, "timed", lambda *given: (2.0, 6.0))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert bench_recurrent.main(["--quick", "--json", str(tmp_path / "found.json")]) == 0
    found = rows("recurrent", json.loads((tmp_path / "found.json").read_text()))
    assert len(found) == len(STEPS) * 2 * 2
    assert {row.ratio for row in found} == {3.0}
    assert found[0].name == "qwen3_next, rule, 1 texts"
