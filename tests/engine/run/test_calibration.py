"""Constants of the cost rule: measured once per device and shape, kept in a file that may be lost or broken."""

import json
import logging
from pathlib import Path

import pytest
import torch

from engine.run.calibration import default_file, device_name, measured_cost, shape_name
from kernels.tree_attention.cost import MeasuredCost
from kernels.tree_attention.heads import Heads

COST = MeasuredCost(0.25, 4.0, 0.5, 0.125, 0.0, 2, 64)


class Meter:
    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> MeasuredCost:
        self.runs += 1
        return COST


def test_measured_once_per_device_and_shape(tmp_path: Path):
    file, meter = tmp_path / "deep" / "attention.json", Meter()
    assert measured_cost(file, "a GPU", "a shape", meter, again=False) == COST
    assert measured_cost(file, "a GPU", "a shape", meter, again=False) == COST
    assert meter.runs == 1
    measured_cost(file, "a GPU", "another shape", meter, again=False)
    measured_cost(file, "another GPU", "a shape", meter, again=False)
    assert meter.runs == 3
    measured_cost(file, "a GPU", "a shape", meter, again=True)
    assert meter.runs == 4
    assert set(json.loads(file.read_text())) == {"a GPU", "another GPU"}
    assert [path.name for path in file.parent.iterdir()] == ["attention.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"a GPU": 3}', '{"a GPU": {"a shape, version 3": {"read": 1}}}'])
def test_a_broken_file_is_made_anew(tmp_path: Path, content: str):
    file, meter = tmp_path / "attention.json", Meter()
    file.write_text(content)
    assert measured_cost(file, "a GPU", "a shape", meter, again=False) == COST
    assert measured_cost(file, "a GPU", "a shape", meter, again=False) == COST
    assert meter.runs == 1


def test_a_file_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert measured_cost(tmp_path / "file" / "attention.json", "a GPU", "a shape", Meter(), again=False) == COST
    assert "can't be kept" in caplog.text


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_file() == tmp_path / "troop" / "attention.json"
    monkeypatch.setenv("TROOP_ENGINE_CALIBRATION", "/elsewhere.json")
    assert default_file() == Path("/elsewhere.json")


def test_names_hold_what_constants_depend_on():
    assert f"{torch.get_num_threads()} threads" in device_name(torch.device("cpu"))
    shape = shape_name("triton", Heads(12, 2, 128, 2), torch.bfloat16, 16)
    assert shape == "triton, 12 of 2 heads of 128, bfloat16, blocks of 16"
