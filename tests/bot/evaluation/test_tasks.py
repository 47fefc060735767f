import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bot.errors import EvaluationError, ModelMissing
from bot.evaluation.tasks import FunctionTask, RepositoryTask, read_tasks, spread

HUMANEVAL = {"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c): pass\n"}
SWE = {
    "instance_id": "owner__name-1",
    "repo": "owner/name",
    "base_commit": "a" * 40,
    "problem_statement": "Title\nBody",
    "patch": "the fix",
    "test_patch": "the tests",
    "FAIL_TO_PASS": '["tests/test_a.py::test_b"]',
    "PASS_TO_PASS": ["tests/test_a.py::test_c"],
    "version": "1.0",
}
MULTI = {
    "org": "owner",
    "repo": "name",
    "number": 7,
    "base": {"label": "main", "ref": "main", "sha": "b" * 40},
    "resolved_issues": [{"number": 3, "title": "Title", "body": "Body"}],
    "fix_patch": "the fix",
    "test_patch": "the tests",
    "f2p_tests": {"test_b": {"run": "PASS"}},
    "p2p_tests": {},
}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_each_form_is_told_by_its_fields(tmp_path: Path):
    (function,) = read_tasks(write(tmp_path / "a.jsonl", HUMANEVAL), tmp_path)
    assert function == FunctionTask(id="HumanEval/0", prompt="def f():\n", entry_point="f", check=HUMANEVAL["test"])
    swe, multi = read_tasks(write(tmp_path / "b.jsonl", SWE, MULTI), tmp_path)
    assert isinstance(swe, RepositoryTask)
    assert (swe.repository, swe.title, swe.body) == ("owner/name", "Title", "Body")
    assert (swe.fail_to_pass, swe.pass_to_pass) == (("tests/test_a.py::test_b",), ("tests/test_a.py::test_c",))
    assert isinstance(multi, RepositoryTask)
    assert (multi.id, multi.base_commit, multi.fail_to_pass) == ("owner__name-7", "b" * 40, ("test_b",))
    assert multi.reference == "the fix"


def test_lists_gzip_and_a_byte_order_mark_are_read(tmp_path: Path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps([HUMANEVAL]), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode() + b"\n\n"))
    assert read_tasks(str(tmp_path / "a.json"), tmp_path) == read_tasks(str(tmp_path / "a.jsonl.gz"), tmp_path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "holds no task"),
        (("[1]",), "item 1: a task must be a JSON object"),
        (("{",), "line 1: this is not JSON"),
        ((json.dumps(SWE), '{"instance_id": "x"}'), "line 2: neither .* the closest lacks FAIL_TO_PASS"),
        ((json.dumps(SWE | {"FAIL_TO_PASS": 3}),), "line 1: FAIL_TO_PASS must be a list of test names"),
        ((json.dumps(SWE | {"FAIL_TO_PASS": "no list"}),), "line 1: "),
        ((json.dumps(SWE | {"problem_statement": None}),), "line 1: "),
        ((json.dumps(MULTI | {"base": {}}),), "line 1: sha is missing"),
        ((json.dumps(HUMANEVAL | {"prompt": 3}),), "line 1: "),
        ((json.dumps(SWE), json.dumps(SWE)), "holds owner__name-1 twice"),
        ((json.dumps(SWE), json.dumps(HUMANEVAL)), "mixes functions and repositories"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, rows: tuple[str, ...], said: str):
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(EvaluationError, match=said):
        read_tasks(str(path), tmp_path)


@pytest.mark.parametrize(("name", "said"), [("absent.jsonl", "there are no tasks at"), ("x.parquet", "export it")])
def test_a_file_that_is_absent_or_of_another_format_is_refused(tmp_path: Path, name: str, said: str):
    with pytest.raises(EvaluationError, match=said):
        read_tasks(str(tmp_path / name), tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    for data in (b"\xff\xfe\x00", b"\x1f\x8b broken"):
        (tmp_path / "tasks").write_bytes(data)
        with pytest.raises(EvaluationError, match="can't be read"):
            read_tasks(str(tmp_path / "tasks"), tmp_path)


def test_humaneval_says_how_it_is_fetched(tmp_path: Path):
    with pytest.raises(ModelMissing, match="troop models humaneval"):
        read_tasks("humaneval", tmp_path)


def test_a_part_is_spread_over_the_file(tmp_path: Path):
    rows = [HUMANEVAL | {"task_id": str(i)} for i in range(10)]
    tasks = read_tasks(write(tmp_path / "a.jsonl", *rows), tmp_path)
    assert [task.id for task in spread(tasks, 4)] == ["0", "2", "5", "7"]
    assert spread(tasks, 99) == spread(tasks, None) == tasks
