import json
from pathlib import Path

import pytest
import torch

from engine.model.in_pool import Advances
from kernels.delta_rule import reference
from kernels.delta_rule.reference import Token
from kernels.places import Places
from tests.bench import bench_recurrent
from tests.bench.recurrent_steps import Bed, Step
from tests.bench.summary import rows
from tests.bench.test_bench_gpu import KIMI, STATES

STEPS = [Step("qwen3_next", 3, STATES), Step("kimi_linear", 2, KIMI)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
@pytest.mark.parametrize("part", ["rule", "whole"])
@torch.inference_mode()
def test_both_ways_are_compared_before_they_are_timed(step: Step, part: str):
    def wrong(token: Token, places: Places) -> torch.Tensor:
        return reference.advance(token._replace(decay=token.decay * 1.5), places)

    bed = Bed(step, torch.device("cpu"), torch.float32)
    before = bed.state.clone()
    assert bed.error(part, Advances(reference.advance)) < 1e-4
    assert not torch.equal(bed.state, before)
    assert bed.error(part, Advances(wrong)) > bench_recurrent.AGREED


def test_figures_and_their_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_recurrent, "Step", lambda kind, texts: STEPS[kind == "kimi_linear"]._replace(texts=texts))
    monkeypatch.setattr(bench_recurrent, "advances_for", lambda device: Advances(reference.advance))
    monkeypatch.setattr(bench_recurrent, "timed", lambda *given: (2.0, 6.0))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert bench_recurrent.main(["--quick", "--json", str(tmp_path / "found.json")]) == 0
    found = rows("recurrent", json.loads((tmp_path / "found.json").read_text()))
    assert len(found) == 2 * 2 * 2
    assert {row.ratio for row in found} == {3.0}
    assert found[0].name == "qwen3_next, rule, 1 texts"
