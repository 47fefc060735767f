import json
from pathlib import Path

import pytest

from tests.bench.summary import READERS, Row, rows, table

RESULTS = Path(__file__).parent / "results"


@pytest.mark.parametrize("name", [name for name in sorted(READERS) if (RESULTS / f"{name}.json").exists()])
def test_committed_figures_can_be_read(name: str):
    found = rows(name, json.loads((RESULTS / f"{name}.json").read_text())["figures"])
    assert found
    assert all(row.ratio > 0 for row in found)


def test_a_benchmark_may_bring_its_own_rows():
    brought = {"summary": [{"name": "a", "figure": "2", "baseline": "1", "ratio": 2.0, "goal": ">= 3"}]}
    assert rows("unheard of", brought) == [Row("a", "2", "1", 2.0, ">= 3")]
    assert rows("unheard of", {"anything": 1}) == []


def test_goals_are_met_from_either_side():
    assert Row("", "", "", 1.0, "<= 1.02").met is True
    assert Row("", "", "", 1.03, "<= 1.02").met is False
    assert Row("", "", "", 12.0, ">= 10").met is True
    assert Row("", "", "", 9.9, ">= 10").met is False
    assert Row("", "", "", 1.0).met is None


def test_table_says_what_fell_short():
    lines = table([Row("one", "10 s", "bare: 5 s", 2.0), Row("three", "1", "2", 0.5, ">= 1")]).splitlines()
    assert lines[0].split() == ["figure", "baseline", "ratio", "goal"]
    assert lines[1].split() == ["one", "10", "s", "bare:", "5", "s", "2.00"]
    assert lines[2].endswith(">= 1 SHORT")
