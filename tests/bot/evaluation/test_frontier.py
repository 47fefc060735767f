"""What share at which cost: by hand, and by the command on folders as `troop eval run` leaves them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli.main import cli
from bot.evaluation.estimates import Interval
from bot.evaluation.figures import Figures, TaskCount
from bot.evaluation.frontier import Budgeted, Source, page, points, with_frontier
from bot.evaluation.matrices import Row, line
from bot.evaluation.results import rated
from bot.evaluation.samples import About
from bot.evaluation.selectors import read_matrices
from bot.records import Price, Speed, Usage

SAMPLES = Usage(calls=8, prompt_tokens=800, cached_tokens=400, completion_tokens=1600)
TESTS = Usage(calls=2, prompt_tokens=100, completion_tokens=400)
# Of the first task three samples of four pass the only test and solve it, of the second one of four.
VOTES = read_matrices(
    [
        line("t/0", [0, 1, 1, 1], [Row(9, "0", False), Row(9, "1", True)], [4], "0"),
        line("t/1", [0, 0, 0, 1], [Row(9, "0", False), Row(9, "1", True)], [4], "0"),
    ]
)


def figures(model: str = "m", digest: str = "0", stages: dict[str, Usage] | None = None) -> Figures:
    about = About(tasks="t.jsonl", kind="functions", number=2, digest=digest, model=model, temperature=0.6, seed=0,
                  max_tokens=100)  # fmt: skip
    counts = (TaskCount(id="t/0", samples=4, solving=3, selected=None),
              TaskCount(id="t/1", samples=4, solving=1, selected=None))  # fmt: skip
    stages = {"samples": SAMPLES, "tests": TESTS} if stages is None else stages
    used = sum(stages.values(), Usage()) if stages else SAMPLES
    return Figures(about=about, wanted=4, estimates=None, usage=used, stages=stages, tasks=counts)


def test_idealized_runtime_is_computed_tokens_at_the_given_speed():
    assert Speed(prompt=100, completion=50).of(SAMPLES) == 400 / 100 + 1600 / 50
    found = rated(figures(), Price(prompt=1e6, completion=0), Speed(prompt=100, completion=50))
    assert found.runtime == (500 / 100 + 2000 / 50) / 2
    assert (found.cost, found.cost_of_pass) == (900, 225)


def test_a_part_of_the_samples_costs_that_part():
    source = Source("m", figures(), tuple(VOTES), Price(prompt=0, completion=1e6), Speed(prompt=1e9, completion=100))
    found = points(source)
    assert [row.samples for row in found] == [1, 2, 4]
    assert [row.coverage.value for row in found] == [0.5, 0.75, 1.0]
    assert [row.tokens for row in found] == [250, 500, 1000]
    assert [row.cost for row in found] == [250, 500, 1000]
    assert [row.runtime for row in found] == pytest.approx([2.5, 5, 10])
    assert found[-1].chosen is not None
    assert found[-1].chosen.value == 1
    assert found[-1].cost_of_pass == 1000
    assert found[0].chosen is not None
    assert 0.2 < found[0].chosen.value < 0.8


def test_what_a_run_reads_first_does_not_shrink_with_its_attempts():
    stages = {"context": Usage(completion_tokens=100), "trajectories": Usage(completion_tokens=400)}
    found = points(Source("m", figures(stages=stages), ()))
    assert [row.tokens for row in found] == [100, 150, 250]
    assert [(row.chosen, row.cost, row.runtime) for row in found] == [(None, None, None)] * 3
    old = points(Source("m", figures(stages={}), ()))  # a report of an earlier version
    assert [row.tokens for row in old] == [200, 400, 800]


def budgeted(of: str, tokens: float, share: float, cost: float | None = None) -> Budgeted:
    solved = Interval(value=share, low=share, high=share)
    return Budgeted(of=of, samples=1, coverage=solved, chosen=None, tokens=tokens, cost=cost, cost_of_pass=None,
                    runtime=None)  # fmt: skip


def test_the_frontier_is_what_no_other_beats():
    small, large = [budgeted("small", 1, 0.2), budgeted("small", 8, 0.3)], [budgeted("large", 4, 0.5)]
    found = with_frontier([*small, *large, budgeted("same", 4, 0.5)])
    assert [(row.of, row.frontier) for row in found] == [
        ("small", True), ("large", True), ("same", False), ("small", False)
    ]  # fmt: skip
    priced = with_frontier([budgeted("small", 1, 0.2, 1), budgeted("small", 8, 0.3, 8), budgeted("large", 4, 0.5, 40)])
    assert [row.frontier for row in priced] == [True, True, True]
    assert "<script" not in page(found)
    assert page(priced).count("<circle") == 3 + 2


def keep(folder: Path, found: Figures) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(found.model_dump_json())
    return folder


def test_the_command_compares_folders(tmp_path: Path):
    one, two = keep(tmp_path / "one", figures("small")), keep(tmp_path / "two", figures("large", "1"))
    out = tmp_path / "out"
    command = ["eval", "frontier", str(one), str(two), "--out", str(out)]
    result = CliRunner().invoke(cli, [*command, "--price", "small", "1", "2", "--price", "two", "10", "20"])
    assert result.exit_code == 0, result.output
    assert "of different tasks" in result.stderr
    assert "| large in two | 4 |" in result.stdout
    assert "by cost." in result.stdout
    assert "large in two" in (out / "frontier.html").read_text()
    assert len(json.loads((out / "frontier.json").read_text())) == 6
    assert "since a price lacks" in CliRunner().invoke(cli, command).stdout
    wrong = CliRunner().invoke(cli, [*command, "--speed", "huge", "1", "2"])
    assert wrong.exit_code == 1
    assert "--speed huge: no evaluation is of that name; they are large, one, small, two" in wrong.stderr
    none = CliRunner().invoke(cli, ["eval", "frontier", str(tmp_path)])
    assert "there is no report.json" in none.stderr
