"""A task in SWE-bench's form through the real solver, git and sandbox; the model is scripted."""

import asyncio
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bot.cli.evaluate import EvalOptions, run
from bot.errors import EvaluationError
from bot.evaluation.checkouts import TaskHost
from bot.evaluation.repositories import prediction
from bot.evaluation.samples import Sample
from bot.evaluation.tasks import RepositoryTask
from bot.git.workspace import Workspace
from bot.records import Message, Price, Reply
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from bot.solver.stopping import with_rule
from tests.lean_python import lean_path
from tests.patience import PATIENCE
from tests.scripted import rules
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint

__all__ = ["lean_path"]

TEST = '<test path="t.py">\nfrom mod import add\nassert add(1, {}) == {}\n</test>'
EDIT = '<edit path="mod.py">\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a + {}\n>>>>>>> REPLACE\n</edit>'
SCRIPT = rules(
    [
        ("relevance/", "<relevant>\nAdds.\n</relevant>"),
        ("/0/test/", [TEST.format(2, 3), "<approve/>"]),
        ("/test/", [TEST.format(3, 4), "<approve/>"]),
        ("trajectory/2/edit/", [EDIT.format("1"), "<done/>"]),
        ("/edit/", [EDIT.format("b"), "<done/>"]),
    ]
)
HIDDEN = """diff --git a/tests/test_mod.py b/tests/test_mod.py
new file mode 100644
--- /dev/null
+++ b/tests/test_mod.py
@@ -0,0 +1,9 @@
+from mod import add
+
+
+def test_add():
+    assert add(2, 5) == 7
+
+
+def test_zero():
+    assert add(2, 0) == 2
"""
FIX = """diff --git a/mod.py b/mod.py
--- a/mod.py
+++ b/mod.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint(SCRIPT) as server:
        yield server


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    root = tmp_path / "clones" / "owner__name"
    root.mkdir(parents=True)
    (root / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "base").write_text(committed(root))
    (root / "mod.py").write_text("what is on disk does not matter\n")
    return root


def committed(root: Path) -> str:
    """All that is there, as a commit; its name."""
    who = {f"GIT_{role}_{part}": "x@x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    for argv in (["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *argv], cwd=root, check=True, env={**os.environ, **who})
    return (
        subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True).stdout.decode().strip()
    )


def row(origin: Path, **changes: object) -> dict[str, object]:
    return {
        "instance_id": "owner__name-1",
        "repo": "owner/name",
        "base_commit": (origin / "base").read_text(),
        "problem_statement": "add is wrong\n`add(1, 2)` gives -1, expected 3.",
        "patch": FIX,
        "test_patch": HIDDEN,
        "FAIL_TO_PASS": ["tests/test_mod.py::test_add"],
        "PASS_TO_PASS": ["tests/test_mod.py::test_zero"],
        **changes,
    }


def settings(endpoint: ScriptedEndpoint) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        main=ModelSettings(base_url=endpoint.base_url),
        solver=SolverSettings(profile="full", test_timeout=30.0),
        sandbox=SandboxSettings(kind="process"),
    )


def options(tmp_path: Path, *rows: dict[str, object], **more: object) -> EvalOptions:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    given = {"samples": 3, "checkouts": (tmp_path / "clones",), "out": tmp_path / "out", **more}
    return EvalOptions(source=str(path), **given)  # type: ignore[arg-type]


def samples(tmp_path: Path) -> list[Sample]:
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    return [Sample.model_validate_json(line) for line in lines]


async def test_a_task_is_solved_judged_and_written_for_the_benchmarks_tools(
    tmp_path: Path, origin: Path, endpoint: ScriptedEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(tmp_path, row(origin), price=Price(prompt=1.0, completion=2.0))
    assert await run(asked, settings(endpoint)) == 0
    assert [(s.sample, s.solves, s.selected) for s in samples(tmp_path)] == [
        (0, True, True),
        (1, True, True),
        (2, False, False),
    ]
    assert "return a + b" in samples(tmp_path)[0].text
    (chosen,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert json.loads(chosen)["instance_id"] == "owner__name-1"
    assert json.loads(chosen)["model_patch"] == samples(tmp_path)[0].text
    assert len((tmp_path / "out" / "all_predictions.jsonl").read_text().splitlines()) == 3
    said = capsys.readouterr().out
    assert "| 1 | 66.7% |" in said
    assert "Selected: 100.0%" in said
    assert "cost 0." in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert "right" in page
    assert "<script" not in page
    (matrix,) = (tmp_path / "out" / "matrices.jsonl").read_text().splitlines()
    assert [one["solves"] for one in json.loads(matrix)["candidates"]] == [True, False]
    assert "| ours | 100.0% |" in said
    calls = len(endpoint.requests)
    assert await run(asked, settings(endpoint)) == 0  # nothing is drawn again
    assert (tmp_path / "out" / "matrices.jsonl").read_text() == f"{matrix}\n"
    assert len(endpoint.requests) == calls
    assert not list((tmp_path / "out" / "work").iterdir())


def test_predictions_have_the_fields_that_the_stock_tools_read(tmp_path: Path) -> None:
    """`swebench.harness.utils.get_predictions_from_file` and `multi_swe_bench.harness.run_evaluation.Patch`, which
    leave out fields that they do not know."""
    swe = RepositoryTask(id="a__b-1", repository="a/b", base_commit="", title="", body="", fail_to_pass=("t",))
    assert json.loads(prediction(swe, "org/model", "")) == {
        "instance_id": "a__b-1",
        "model_name_or_path": "org/model",
        "model_patch": "",  # they count it as an empty patch; without the field they stop
    }
    multi = swe.model_copy(update={"pull_request": 1})
    line = prediction(multi, "model", "diff \u2028 --git")
    assert len(line.splitlines()) == 1
    also = {key: json.loads(line)[key] for key in ("org", "repo", "number", "fix_patch")}
    assert also == {"org": "a", "repo": "b", "number": 1, "fix_patch": json.loads(line)["model_patch"]}
    assert multi.model_dump_json() == swe.model_dump_json(), "evaluations from before it was read go on"


async def test_a_rule_draws_fewer_samples_and_the_task_is_done(
    tmp_path: Path, origin: Path, endpoint: ScriptedEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the repository's own config says of the number and the rule counts for nothing."""
    (origin / "mod.py").write_text("def add(a, b):\n    return a - b\n")
    (origin / ".troop.toml").write_text("[run]\ntrajectories = 1\nstop = 'short-m'\n")
    head = committed(origin)
    asked = options(tmp_path, row(origin, base_commit=head), samples=6, stop="first-finish")
    server = settings(endpoint)
    server = server.model_copy(update={"solver": with_rule(server.solver, "first-finish")})
    assert await run(asked, server) == 0
    drawn = [(s.drawn, s.solves) for s in samples(tmp_path)]
    assert drawn == [(True, True), (True, True), (True, False), (True, True), (False, False), (False, False)]
    assert len((tmp_path / "out" / "all_predictions.jsonl").read_text().splitlines()) == 4
    said = capsys.readouterr().out
    assert "| 1 | 75.0% |" in said
    assert "Stopped by first-finish: 4.0 of 6 samples a task." in said
    assert "Stopped by first-finish" in (tmp_path / "out" / "report.html").read_text()
    calls = len(endpoint.requests)
    assert await run(asked, server) == 0
    assert len(endpoint.requests) == calls
    with pytest.raises(EvaluationError, match=r'another evaluation \(stop was "first-finish"'):
        await run(asked, settings(endpoint))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FAIL_TO_PASS": ["tests/test_mod.py::test_zero"]}, "pass without a fix"),
        ({"FAIL_TO_PASS": ["tests/test_mod.py::test_absent"]}, "fail with the reference patch"),
        ({"base_commit": "1" * 40}, "has no commit 1111"),
        ({"base_commit": "--upload-pack=x"}, "has no commit --upload-pack=x"),
        ({"repo": "owner/absent", "base_commit": "1234567"}, "not a commit's full name"),
        ({"FAIL_TO_PASS": []}, "names no test that a fix must make pass"),
        ({"test_patch": HIDDEN.replace("new file mode 100644\n--- /dev/null", "--- a/absent")}, "does not apply"),
    ],
)
async def test_a_task_that_can_not_be_judged_here_is_left_out_and_named(
    tmp_path: Path,
    origin: Path,
    endpoint: ScriptedEndpoint,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    said: str,
) -> None:
    assert await run(options(tmp_path, row(origin, **changes)), settings(endpoint)) == 3
    shown = capsys.readouterr().out
    assert said in shown
    assert shown.count("left out: owner__name-1") == 1
    assert not endpoint.requests or all("messages" not in request for request in endpoint.requests)


async def test_the_others_go_on_whatever_a_task_is_called(
    tmp_path: Path, origin: Path, endpoint: ScriptedEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = row(origin, instance_id="..", base_commit="1" * 40)
    assert await run(options(tmp_path, bad, row(origin, instance_id="a: b/c")), settings(endpoint)) == 3
    assert [sample.task for sample in samples(tmp_path)] == ["a: b/c"] * 3
    assert "left out: ..: " in capsys.readouterr().out
    assert (tmp_path / "out" / "report.json").exists()


async def test_an_interrupted_task_goes_on_from_its_journal(
    tmp_path: Path, origin: Path, endpoint: ScriptedEndpoint
) -> None:
    asked = options(tmp_path, row(origin))
    script, released = endpoint.script, threading.Event()

    def held(key: str, messages: Sequence[Message]) -> str | Reply:
        if key.startswith("description/"):  # the last call: the run can't end before it is interrupted
            released.wait(PATIENCE)
        return script(key, messages)

    endpoint.script = held
    task = asyncio.create_task(run(asked, settings(endpoint)))
    journal = tmp_path / "out" / "work" / "owner__name-1.journal"
    while not (journal.exists() and re.search(rb'"model/trajectory/\d+/edit/', journal.read_bytes())):
        await asyncio.sleep(0.01)
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    before = [request["messages"] for request in endpoint.requests if "messages" in request]
    assert await run(asked, settings(endpoint)) == 0
    assert sum(sample.solves for sample in samples(tmp_path)) == 2
    whole = [json.dumps(request["messages"]) for request in endpoint.requests if "messages" in request]
    first = json.dumps(before[0])
    assert whole.count(first) == 1  # what was finished was not asked again


async def test_a_repository_that_is_nowhere_says_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.evaluation.checkouts._WEB", str(tmp_path / "no-web"))
    task = RepositoryTask(
        id="o__n-1", repository="o/n", base_commit="", title="t", body="", fail_to_pass=("tests/a.py::b",)
    )
    with pytest.raises(EvaluationError, match=r"put a clone into a folder, as o__n, and give that with --checkouts"):
        await TaskHost((tmp_path,), task).clone("o/n", tmp_path / "work")


async def test_the_base_commit_is_checked_out_not_what_is_on_disk(tmp_path: Path, origin: Path) -> None:
    base = (origin / "base").read_text()
    task = RepositoryTask(
        id="x", repository=str(origin), base_commit=base[:12], title="t", body="", fail_to_pass=("a::b",)
    )
    assert await TaskHost((), task).clone("", tmp_path / "work") == base
    assert "return a - b" in (Workspace(tmp_path / "work").tree / "mod.py").read_text()
