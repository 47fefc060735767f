"""`troop eval` from the command line over a scripted endpoint: functions, their votes, and what is missing."""

import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot.cli.main import cli
from bot.records import FinishReason, Message, Reply
from tests.scripted import Mode
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint

TASKS = [
    {
        "task_id": f"t/{i}",
        "prompt": f'def add{i}(a, b):\n    """The sum."""\n',
        "entry_point": f"add{i}",
        "test": "def check(f):\n    assert f(1, 2) == 3\n",
    }
    for i in range(2)
]


def script(key: str, messages: Sequence[Message]) -> str:
    name = "add1" if "/1/" in key else "add0"
    if "/tests/" in key:
        return f"assert {name}(2, 2) == 4\nassert {name}(0, 0) == 1"
    wrong = key.endswith("1")
    return f"```python\ndef {name}(a, b):\n    return a {'-' if wrong else '+'} b\n```"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return path


def evaluate(tasks: Path, endpoint: ScriptedEndpoint, *more: str) -> Result:
    out = tasks.parent / "out"
    argv = ["eval", "run", str(tasks), "--samples", "3", "--sandbox", "process", "--base-url", endpoint.base_url]
    return CliRunner().invoke(cli, [*argv, "--out", str(out), *more])


def test_functions_are_drawn_judged_and_reported(tasks: Path) -> None:
    with scripted_endpoint(script) as endpoint:
        done = evaluate(tasks, endpoint, "--tests", "1", "--price", "1", "2")
        assert done.exit_code == 0, done.output
        assert "| 1 | 66.7% |" in done.output
        assert "| ours | 100.0% |" in done.output
        calls = len(endpoint.requests)
        assert calls == 2 * 3 + 2
        again = evaluate(tasks, endpoint, "--tests", "1", "--price", "1", "2")
        assert again.exit_code == 0
        assert len(endpoint.requests) == calls
    out = tasks.parent / "out"
    rows = [json.loads(line) for line in (out / "matrices.jsonl").read_text().splitlines()]
    assert [(row["samples"], [c["passes"] for c in row["candidates"]]) for row in rows] == [
        ([0, 1, 0], ["10", "00"])
    ] * 2
    completions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert {row["task_id"] for row in completions} == {"t/0", "t/1"}
    told = CliRunner().invoke(cli, ["eval", "report", str(out), "--price", "10", "20", "--speed", "1000", "10"])
    assert told.exit_code == 0
    assert "a solving sample" in told.output
    assert re.search(r"; by stage: samples \d+, tests \d+; cost ", told.output)
    assert re.search(r"; idealized runtime [\d.]+ s a task\.", told.output)


def test_calls_that_failed_are_said_and_drawn_by_the_next_run(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_MAIN_RETRIES", "0")
    with scripted_endpoint(script) as endpoint:
        endpoint.next_modes = [Mode.NORMAL, Mode.ERROR]
        first = evaluate(tasks, endpoint, "--at-once", "1")
        assert first.exit_code == 3
        assert "1 sample is missing, since calls failed (gave up after 1 tries: HTTP 500" in first.output
        assert "): run the same command again" in first.output
        assert evaluate(tasks, endpoint, "--at-once", "1").exit_code == 0


def test_a_base_model_is_given_the_head_of_a_function(tasks: Path) -> None:
    def completes(key: str, messages: Sequence[Message]) -> str:
        (asked,) = messages
        if asked.content.endswith("assert"):
            return " add0(2, 2) == 4\nassert add1(2, 2) == 4\n"
        return f"    return a {'-' if key.endswith('1') else '+'} b\n\nif __name__ == '__main__':\n    pass\n"

    with scripted_endpoint(completes) as endpoint:
        done = evaluate(tasks, endpoint, "--form", "completion", "--tests", "1")
    assert done.exit_code == 0, done.output
    assert "| 1 | 66.7% |" in done.output
    assert "| ours | 100.0% |" in done.output
    asked = {request["prompt"]: request for request in endpoint.requests}
    assert len(asked[TASKS[0]["prompt"]]["stop"]) == 4
    assert any(prompt.endswith("    pass\n\n# check the correctness of add1\nassert") for prompt in asked)
    samples = [json.loads(line) for line in (tasks.parent / "out" / "samples.jsonl").read_text().splitlines()]
    (first,) = (each for each in samples if each["task"] == TASKS[0]["task_id"] and not each["sample"])
    assert first["text"] == f"```python\n{TASKS[0]['prompt']}    return a + b\n\n\n```"
    assert evaluate(tasks, endpoint).exit_code == 1, "another form is another evaluation"


def test_the_tests_of_another_evaluation_vote(tasks: Path) -> None:
    with scripted_endpoint(script) as endpoint:
        assert evaluate(tasks, endpoint, "--tests", "1").exit_code == 0
        first, other = tasks.parent / "out", tasks.parent / "other"
        asked = len(endpoint.requests)
        done = evaluate(tasks, endpoint, "--out", str(other), "--tests-from", str(first))
        assert done.exit_code == 0, done.output
        assert "| ours | 100.0% |" in done.output
        assert len(endpoint.requests) == asked + 6, "no call for tests"
        assert (other / "matrices.jsonl").read_text() == (first / "matrices.jsonl").read_text()
        keep = (first / "votes.journal").read_text()
        (first / "votes.journal").write_text(keep.replace("== 4", "== 5"))
        done = evaluate(tasks, endpoint, "--out", str(other), "--tests-from", str(first))
        assert "other tests have voted on t/0 before: give another --out" in done.output
        (first / "votes.journal").unlink()
        done = evaluate(tasks, endpoint, "--out", str(tasks.parent / "third"), "--tests-from", str(first))
        assert "has no tests of functions: `troop eval run ... --tests 5` makes them" in done.output
        both = evaluate(tasks, endpoint, "--tests", "1", "--tests-from", str(first))
    assert "give one of the two" in both.output


def test_as_many_calls_at_once_as_asked_for(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_MAIN_CONCURRENCY", "2")
    with scripted_endpoint(script) as endpoint:
        endpoint.together = threading.Barrier(6, timeout=60)  # breaks where fewer come
        done = evaluate(tasks, endpoint, "--at-once", "6")
        assert not endpoint.together.broken
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval", "run", "absent.jsonl", "--out", "x", "--base-url", "http://127.0.0.1:9/v1"], "there are no tasks at"),
        (["eval", "run", "t", "--out", "x", "--test-command", "pytest"], "--test-command must contain {tests}"),
        (["eval", "run", "t", "--out", "x", "--stop", "early"], "'early' is not one of 'posterior', 'first-finish'"),
        (["eval", "report", "."], "there is no report.json in"),
        (["eval", "plant", "toolz", "--out", "x"], "give its version"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code in (1, 2)
    assert said in done.output
    assert "Traceback" not in done.output


def test_functions_whose_check_fails_with_their_own_solution_are_left_out(tasks: Path) -> None:
    good = TASKS[0] | {"canonical_solution": "    return a + b\n"}
    broken = TASKS[1] | {"canonical_solution": "    return a + b\n", "test": "import absent_module\n"}
    tasks.write_text("".join(json.dumps(task) + "\n" for task in (good, broken)))
    with scripted_endpoint(script) as endpoint:
        done = evaluate(tasks, endpoint)
    assert done.exit_code == 3
    assert "left out: t/1: its check fails with its own solution" in done.output
    assert "No module named 'absent_module'" in done.output
    assert "| 1 | 66.7% |" in done.output, "the share of what can be judged"


def test_a_folder_that_can_not_be_written_is_one_line(tasks: Path) -> None:
    (tasks.parent / "out").write_text("a file")
    with scripted_endpoint(script) as endpoint:
        done = evaluate(tasks, endpoint, "--out", str(tasks.parent / "out" / "below"))
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    assert "can't be written (Not a directory)" in done.output


def test_a_rule_for_runs_is_refused_for_functions(tasks: Path) -> None:
    with scripted_endpoint(script) as endpoint:
        done = evaluate(tasks, endpoint, "--stop", "consensus")
    assert done.exit_code == 1
    assert "--stop is for runs of the solver" in done.output


def test_a_reply_that_is_cut_off_is_judged_and_named(tasks: Path) -> None:
    with scripted_endpoint(lambda key, messages: Reply(text="def ad", finish_reason=FinishReason.LENGTH)) as endpoint:
        assert evaluate(tasks, endpoint).exit_code == 0
    sample = json.loads((tasks.parent / "out" / "samples.jsonl").read_text().splitlines()[0])
    assert not sample["solves"]
    assert sample["status"].endswith("cut off at the token limit")
