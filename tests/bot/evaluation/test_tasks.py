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


EVALPLUS = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "base_input": [[1, 2]],
    "plus_input": [[0.1, 0.2], [[1], [2.5]]],
    "atol": 0,
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
    assert (swe.pull_request, multi.pull_request) == (None, 7)
    odd = [MULTI | {"number": number} for number in ("8", 9.0, "ten")]
    assert [task.pull_request for task in read_tasks(write(tmp_path / "c.jsonl", *odd), tmp_path)] == [8, 9, None]  # type: ignore[union-attr]


def test_lists_gzip_and_a_byte_order_mark_are_read(tmp_path: Path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps([HUMANEVAL]), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode() + b"\n\n"))
    assert read_tasks(str(tmp_path / "a.json"), tmp_path) == read_tasks(str(tmp_path / "a.jsonl.gz"), tmp_path)


def other_keys(**changes: Any) -> dict[str, Any]:
    """SWE-bench's form under other names."""
    return {key: value for key, value in SWE.items() if not key.isupper()} | changes


@pytest.mark.parametrize(
    "row",
    [
        SWE | {"FAIL_TO_PASS": "['tests/test_a.py::test_b']"},  # as Python writes it
        SWE | {"FAIL_TO_PASS": ["tests/test_a.py::test_b"] * 2},
        SWE | {"PASS_TO_PASS": '["tests/test_a.py::test_c"]', "repo": "https://github.com/owner/name.git"},
        other_keys(fail_to_pass=["tests/test_a.py::test_b"], pass_to_pass=["tests/test_a.py::test_c"]),
        other_keys(F2P="['tests/test_a.py::test_b']", P2P="['tests/test_a.py::test_c']"),
    ],
)
def test_benchmarks_of_the_same_form_are_the_same_tasks(tmp_path: Path, row: dict[str, Any]):
    expected = read_tasks(write(tmp_path / "a.jsonl", SWE), tmp_path)
    assert read_tasks(write(tmp_path / "b.jsonl", row), tmp_path) == expected


@pytest.mark.parametrize("nothing", [None, "", "[]", "null", []])
def test_what_names_no_test_is_read_for_the_others_sake(tmp_path: Path, nothing: object):
    row = SWE | {"FAIL_TO_PASS": nothing, "PASS_TO_PASS": nothing}
    (task,) = read_tasks(write(tmp_path / "a.jsonl", row), tmp_path)
    assert isinstance(task, RepositoryTask)
    assert (task.fail_to_pass, task.pass_to_pass) == ((), ())


def test_tests_that_a_fix_brings_or_turns_on_must_pass_too(tmp_path: Path):
    encoded = {name: json.dumps(MULTI[name]) for name in ("base", "resolved_issues", "f2p_tests")}
    turned = {"s2p_tests": {"skipped": {}}, "n2p_tests": {"new": {}, "of another task": None}}
    (task,) = read_tasks(write(tmp_path / "a.jsonl", MULTI | encoded | turned), tmp_path)
    assert isinstance(task, RepositoryTask)
    assert (task.fail_to_pass, task.title, task.base_commit) == (("test_b", "skipped", "new"), "Title", "b" * 40)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \n"])
def test_lines_end_where_json_lets_them(tmp_path: Path, end: str):
    told = SWE | {"problem_statement": "Title\none\u2028line\x85still"}
    rows = [told, told | {"instance_id": "b"}]
    text = end.join(json.dumps(row, ensure_ascii=False) for row in rows) + end
    (tmp_path / "a.jsonl").write_bytes(text.encode())
    tasks = read_tasks(str(tmp_path / "a.jsonl"), tmp_path)
    assert [task.id for task in tasks] == ["owner__name-1", "b"]
    assert isinstance(tasks[0], RepositoryTask)
    assert tasks[0].body == "one\u2028line\x85still"


@pytest.mark.parametrize("text", [json.dumps(SWE, indent=1), json.dumps({"x": SWE}), json.dumps({"x": SWE}, indent=1)])
def test_one_value_over_several_lines_and_a_mapping_by_id_are_read(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    assert [task.id for task in read_tasks(str(tmp_path / "a.json"), tmp_path)] == ["owner__name-1"]


def test_half_a_character_does_not_stop_what_is_written_later(tmp_path: Path):
    whole = SWE | {"problem_statement": "Smile \U0001f600\n\ud800 x"}
    (task,) = read_tasks(write(tmp_path / "a.jsonl", whole), tmp_path)
    assert isinstance(task, RepositoryTask)
    assert (task.title, task.body) == ("Smile \U0001f600", "? x")
    task.model_dump_json()


def test_inputs_in_the_place_of_tests_are_judged_by_the_tasks_own_solution(tmp_path: Path):
    (task,) = read_tasks(write(tmp_path / "a.jsonl", EVALPLUS), tmp_path)
    assert isinstance(task, FunctionTask)

    def passes(add: Any, check: str = task.check) -> bool:
        scope: dict[str, Any] = {}
        exec(check, scope)
        try:
            scope["check"](add)
        except AssertionError:
            return False
        return True

    assert passes(lambda a, b: a + b)
    assert passes(lambda a, b: a + b + 1e-9 if isinstance(a, float) else a + b)
    assert not passes(lambda a, b: a + b + 1e-3 if isinstance(a, float) else a + b)
    assert not passes(lambda a, b: 3 if a == 1 else tuple(a + b) if isinstance(a, list) else a + b)
    poly = {
        "prompt": "def poly(xs, x):\n    return xs[0] + xs[1] * x\n\ndef find_zero(xs):\n",
        "entry_point": "find_zero",
    }
    rooted = EVALPLUS | poly | {"canonical_solution": "    return 99\n", "base_input": [[[-2, 1]]], "plus_input": []}
    (root,) = read_tasks(write(tmp_path / "a.jsonl", rooted), tmp_path)
    assert isinstance(root, FunctionTask)
    assert passes(lambda xs: 2.00001, root.check)
    assert not passes(lambda xs: 2.1, root.check)


def test_the_solution_is_no_part_of_what_a_task_is_known_by(tmp_path: Path):
    (plain,) = read_tasks(write(tmp_path / "a.jsonl", HUMANEVAL), tmp_path)
    (solved,) = read_tasks(write(tmp_path / "a.jsonl", HUMANEVAL | {"canonical_solution": "    pass\n"}), tmp_path)
    assert isinstance(solved, FunctionTask)
    assert solved.reference == "def f():\n    pass\n"
    assert solved.model_dump_json() == plain.model_dump_json()


def test_ten_thousand_tasks_are_read(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", *(SWE | {"instance_id": f"o__n-{i}"} for i in range(10_000)))
    assert len(read_tasks(path, tmp_path)) == 10_000


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "holds no task"),
        (("[1]",), "item 1: a task must be a JSON object"),
        (("{",), "line 1: this is not JSON"),
        ((json.dumps(SWE | {"instance_id": 7}),), "line 1: instance_id must be a text that is not empty, not 7"),
        ((json.dumps(SWE | {"instance_id": " "}),), "line 1: instance_id must be a text that is not empty"),
        ((json.dumps(SWE | {"base_commit": 5}),), "line 1: base_commit: input should be a valid string"),
        ((json.dumps(SWE | {"FAIL_TO_PASS": "a::b"}),), "line 1: FAIL_TO_PASS must be a list of test names: 'a::b' is"),
        ((json.dumps(MULTI | {"base": "x"}),), "line 1: 'x' is no list"),
        ((json.dumps(MULTI | {"resolved_issues": ["x"]}),), "line 1: base must be an object .* a list of objects"),
        ((json.dumps(MULTI | {"resolved_issues": None}),), "line 1: title must be a text"),
        ((json.dumps(HUMANEVAL | {"entry_point": ""}),), "line 1: entry_point must be a text"),
        ((json.dumps(EVALPLUS | {"base_input": [], "plus_input": []}),), "line 1: .* hold no input"),
        ((json.dumps(SWE), '{"instance_id": "x"}'), "line 2: neither .* the closest lacks FAIL_TO_PASS"),
        ((json.dumps(SWE | {"FAIL_TO_PASS": 3}),), "line 1: FAIL_TO_PASS must be a list of test names"),
        ((json.dumps(SWE | {"FAIL_TO_PASS": "no list"}),), "line 1: "),
        ((json.dumps(SWE | {"problem_statement": None}),), "line 1: problem_statement must be a text .* not null"),
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
