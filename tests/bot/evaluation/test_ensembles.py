"""Evaluations of functions counted together: by hand, and by the command on folders as `troop eval run` leaves them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bot.cli.main import cli
from bot.errors import EvaluationError
from bot.evaluation.ensembles import Member, Pooled, Tests, common, measure, pooled, read_member, read_pooled, text
from bot.evaluation.matrices import Row, line
from bot.evaluation.samples import About, Sample
from bot.evaluation.voting import Written
from bot.records import Usage

RIGHT, WRONG, ALSO_RIGHT = (f"def double(x): return {body}" for body in ("2 * x", "x", "x + x"))
GOOD, BAD = "assert double(2) == 4", "assert double(2) == 2"


def member(name: str, codes: list[str], tests: list[str], tasks: tuple[str, ...] = ("t/0",)) -> Member:
    samples = [
        Sample(task=task, sample=i, solves=code != WRONG, text=f"```python\n{code}\n```")
        for task in tasks
        for i, code in enumerate(codes)
    ]
    return Member(name, {t: [s for s in samples if s.task == t] for t in tasks}, dict.fromkeys(tasks, tuple(tests)))


# One writes wrong code with a wrong test and a right one, the other right code without a test that tells.
MISTAKEN = member("mistaken", [WRONG, WRONG, RIGHT], [BAD, BAD, GOOD])
ABLE = member("able", [RIGHT, ALSO_RIGHT], [GOOD])
MATRIX = line(
    "t/0",
    [0, 0, 1, 1, 2],
    [Row(24, "10", False), Row(28, "01", True), Row(28, "01", True)],
    [2, 2],
    "00",
)


def votes_of(matrix: str, members: list[Member], others: Tests | None = None) -> Pooled:
    return read_pooled(pooled(matrix, members, others or {}, "t/0"))


def test_each_member_has_its_own_samples_and_tests_and_together_all_of_them():
    rng = np.random.default_rng(0)
    votes = votes_of(MATRIX, [MISTAKEN, ABLE])
    assert [each.tolist() for each in votes.samples] == [[0, 0, 1], [1, 2]]
    assert [each.tolist() for each in votes.tests] == [[0, 0, 1], [1]]
    alone = votes.part([0, 2], rng)
    assert alone.passes.tolist() == [[1], [1]]
    assert alone.samples.tolist() == [1, 1]
    assert votes.part([2, 1], rng).samples.sum() == 3


def test_tests_of_another_evaluation_vote_whichever_samples_are_drawn():
    silent = [member(name, [RIGHT], []) for name in ("a", "b")]
    votes = votes_of(line("t/0", [0, 0], [Row(24, "10", True)], [2, 1], "00"), silent, {"t/0": (GOOD, GOOD, BAD)})
    assert votes.others.tolist() == [0, 0, 1]
    assert votes.part([0, 1], np.random.default_rng(0)).passes.tolist() == [[1, 0]]


def test_what_an_ensemble_adds():
    votes = votes_of(MATRIX, [MISTAKEN, ABLE])
    found = measure([votes])
    assert [row.chosen.value for row in found.members] == [0, 1]
    assert found.best == "able"
    assert found.everything.chosen.value == 1  # three samples of five, and their test, against two
    assert found.everything_gain.value == 0
    assert found.everything.samples == 5
    found = measure([votes_of(line_of_two(), [MISTAKEN, replace(MISTAKEN, name="b")])])
    assert (found.best, found.everything.random.value) == ("mistaken", pytest.approx(1 / 3))


def test_equal_parts_are_compared_with_as_many_of_one():
    """Wrong code three times and no test: a part of the right one's samples is not held against all that it has."""
    votes = votes_of(
        line("t/0", [0, 0, 1, 1, 1, 1, 1, 1], [Row(24, "0", False), Row(28, "1", True)], [1], "0"),
        [member("few", [WRONG, WRONG], []), member("many", [RIGHT] * 6, [GOOD])],
    )
    found = measure([votes])
    assert [row.samples for row in found.members] == [2, 6]
    assert [row.samples for row in (*found.equal, found.shared)] == [2, 2, 2]
    assert found.best_of_equal == "many"
    assert "than with as many of many, the best member" in text(found)
    assert sum(line.startswith("| many |") for line in text(found).splitlines()) == 2, "with all, and with as many"


def line_of_two() -> str:
    return line("t/0", [0, 0, 1, 0, 0, 1], [Row(24, "10", False), Row(28, "01", True)], [4, 2], "00")


def test_a_member_without_a_test_takes_part():
    matrix = line("t/0", [0, 1], [Row(24, "0", False), Row(28, "1", True)], [1], "0")
    votes = votes_of(matrix, [member("silent", [WRONG], []), member("able", [RIGHT], [GOOD])])
    found = measure([votes])
    assert [row.chosen.value for row in found.members] == [0, 1]
    assert found.everything.chosen.value == 1


def test_the_tasks_of_an_ensemble_are_those_of_all_members():
    both = member("both", [RIGHT], [GOOD], ("t/0", "t/1"))
    assert common([both, ABLE], {}, ["t/2", "t/1", "t/0"]) == ["t/0"]
    with pytest.raises(EvaluationError, match="no task has samples in every folder"):
        common([both, member("other", [RIGHT], [], ("t/9",))], {}, ["t/0", "t/9"])
    with pytest.raises(EvaluationError, match="run them with --tests"):
        common([member("a", [RIGHT], []), member("b", [RIGHT], [])], {}, ["t/0"])
    assert common([member("a", [RIGHT], []), member("b", [RIGHT], [])], {"t/0": (GOOD,)}, ["t/0"]) == ["t/0"]


def about(**changed: str) -> str:
    fields = {"tasks": "t.jsonl", "kind": "functions", "number": 1, "digest": "0", "model": "m", "temperature": 0.6}
    return About.model_validate({**fields, "seed": 0, "max_tokens": 100, **changed}).model_dump_json()


def keep(folder: Path, one: Member) -> Path:
    folder.mkdir()
    (folder / "about.json").write_text(about())
    samples = "".join(f"{sample.model_dump_json()}\n" for each in one.samples.values() for sample in each)
    (folder / "samples.jsonl").write_text(samples)
    entries = [[f"tests/{t}", Written(tests=tests, usage=Usage()).model_dump_json()] for t, tests in one.tests.items()]
    cut_off = '["tests/t/1", "'
    (folder / "votes.journal").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries) + cut_off)
    return folder


def test_the_command_runs_all_tests_on_all_candidates(tmp_path: Path):
    task = {"task_id": "t/0", "prompt": 'def double(x):\n    """Twice."""\n', "entry_point": "double", "test": ""}
    tasks = tmp_path / "t.jsonl"
    tasks.write_text(json.dumps({**task, "canonical_solution": "    return 2 * x\n"}))
    folders = [keep(tmp_path / "one", MISTAKEN), keep(tmp_path / "two", ABLE)]
    out = tmp_path / "out"
    command = ["eval", "ensemble", str(tasks), *map(str, folders), "--out", str(out), "--sandbox", "process"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "1 task of 1" in result.output
    assert "| m in two | 2.0 |" in result.output
    assert "than with m in two alone, the best member." in result.output
    matrix = json.loads((out / "matrices.jsonl").read_text())
    assert [row["passes"] for row in matrix["candidates"]] == ["10", "01", "01"]
    assert matrix["samples"] == [0, 0, 1, 1, 2]
    assert json.loads((out / "ensemble.json").read_text())["best"] == "m in two"
    assert CliRunner().invoke(cli, command).stdout == result.stdout  # from the journal
    result = CliRunner().invoke(cli, [*command, "--tests-from", str(folders[1])])
    assert result.exit_code == 0, result.output
    matrix = json.loads((out / "matrices.jsonl").read_text())
    assert [row["passes"] for row in matrix["candidates"]] == ["0", "1", "1"], "the tests of one member alone"


def test_folders_that_are_no_members_are_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, match=r"there is no about\.json"):
        read_member(tmp_path)
    (tmp_path / "about.json").write_text(about(kind="repositories"))
    with pytest.raises(EvaluationError, match="troop solve --from-branch"):
        read_member(tmp_path)
    (tmp_path / "about.json").write_text("{}")
    with pytest.raises(EvaluationError, match="is not one of `troop eval`"):
        read_member(tmp_path)
    result = CliRunner().invoke(cli, ["eval", "ensemble", "humaneval", str(tmp_path), "--out", str(tmp_path / "o")])
    assert "two members or more" in result.output
