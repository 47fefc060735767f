"""Tasks whose tests run in an image of their own, as SWE-bench's do."""

import io
import json
import os
import subprocess
from pathlib import Path

import docker
import pytest

from bot.cli.evaluate import EvalOptions, run
from bot.errors import EvaluationError
from bot.evaluation.images import SETUP, with_image
from bot.evaluation.tasks import RepositoryTask, read_tasks
from bot.settings import ModelSettings, SandboxSettings, Settings, SolverSettings
from tests.patience import PATIENCE
from tests.scripted import rules
from tests.scripted_endpoint import scripted_endpoint
from tests.services_docker import client, docker_address, sandbox_image

__all__ = ["client", "docker_address", "sandbox_image"]

# A name that no registry has: the daemon is refused at once.
IMAGES = "127.0.0.1:1/bench.{id}:1"
MODULE = "import built\nimport only_there\n\n\ndef add(a, b):\n    return a {} b\n"
TESTS = """
import unittest

from mod import add


class AddTests(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 5), 7)
"""
EDIT = '<edit path="mod.py">\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a + b\n>>>>>>> REPLACE\n</edit>'
SCRIPT = rules(
    [
        ("/test/", ['<test path="t.py">\nfrom mod import add\nassert add(2, 3) == 5\n</test>', "<approve/>"]),
        ("/edit/", [EDIT, "<done/>"]),
    ]
)


def task(**fields: str) -> RepositoryTask:
    return RepositoryTask(
        id="django__Django-1", repository="a/b", base_commit="", title="", body="", fail_to_pass=("t",), fields=fields
    )


@pytest.mark.parametrize(
    ("template", "image"),
    [
        ("swebench/sweb.eval.x86_64.{id}:latest", "swebench/sweb.eval.x86_64.django_1776_django-1:latest"),
        ("{docker_image}", "ghcr.io/octo/one:2"),
    ],
)
def test_a_tasks_image_is_named_by_its_id_and_fields(template: str, image: str) -> None:
    given = Settings.model_validate({"sandbox": SandboxSettings(kind="auto")})
    found = with_image(given, task(docker_image="ghcr.io/octo/one:2"), template).sandbox
    assert (found.kind, found.image, found.setup) == ("docker", image, SETUP)


def test_without_a_name_the_settings_stay_and_a_setup_of_the_operators_is_kept() -> None:
    given = Settings.model_validate({"sandbox": SandboxSettings(setup="make ready")})
    assert with_image(given, task(), "") is given
    assert with_image(given, task(), "octo/{id}").sandbox.setup == "make ready"


@pytest.mark.parametrize(
    ("template", "words"),
    [("octo/{tag}", "--images names 'tag', and the task has {id}, {image}"), ("{image}", "'A B' is not the name")],
)
def test_a_name_that_can_not_be_made_is_refused(template: str, words: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        with_image(Settings(), task(image="A B"), template)
    assert words in str(refused.value)


def test_fields_of_a_line_that_may_name_an_image(tmp_path: Path) -> None:
    row = {"instance_id": "a-1", "repo": "a/b", "problem_statement": "It is\nwrong", "FAIL_TO_PASS": ["t"], "number": 3}
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(row | {"docker_image": "octo/a:1"}))
    (read,) = read_tasks(str(path), tmp_path)
    assert isinstance(read, RepositoryTask)
    assert read.fields == {"docker_image": "octo/a:1"}
    path.write_text(json.dumps(row))
    (same,) = read_tasks(str(path), tmp_path)
    assert same.model_dump_json() == read.model_dump_json()  # the samples that are kept stay this task's


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clones" / "owner__name"
    root.mkdir(parents=True)
    (root / "mod.py").write_text(MODULE.format("-"))
    who = {f"GIT_{role}_{part}": "x@x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    for argv in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *argv], cwd=root, check=True, env={**os.environ, **who})
    return root


@pytest.fixture
def image(client: docker.APIClient, sandbox_image: str) -> str:
    """The first task's image: what is imported is in its environment, and in its own copy of the repository."""
    name = IMAGES.format(id="owner_1776_name-1")
    environment = "/opt/miniconda3/envs/testbed"
    lines = [
        f"FROM {sandbox_image}",
        f"RUN python3 -m venv --without-pip {environment} && mkdir -p /opt/miniconda3/bin /testbed/.git",
        "RUN touch /testbed/built.py /testbed/mod.py",
        f"RUN cd {environment}/lib/python3*/site-packages && touch only_there.py",
        "RUN ln -s /usr/bin/python3 /opt/miniconda3/bin/python3",
        "ENV PATH=/opt/miniconda3/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    dockerfile = io.BytesIO("\n".join(lines).encode())
    said = list(client.build(fileobj=dockerfile, tag=name, rm=True, decode=True))
    assert "error" not in said[-1], said[-1]
    return name


@pytest.mark.service
async def test_tests_run_in_the_tasks_image_and_one_that_is_missing_stops_no_other(
    tmp_path: Path, clone: Path, image: str, client: docker.APIClient
) -> None:
    added = "".join(f"+{line}\n" for line in TESTS.splitlines())
    patch = (
        "diff --git a/test_mod.py b/test_mod.py\nnew file mode 100644\n--- /dev/null\n+++ b/test_mod.py\n"
        f"@@ -0,0 +1,{len(TESTS.splitlines())} @@\n{added}"
    )
    rows = [
        {
            "instance_id": f"owner__name-{number}",
            "repo": "owner/name",
            "problem_statement": "add is wrong\n`add(1, 2)` gives -1, expected 3.",
            "test_patch": patch,
            "FAIL_TO_PASS": ["test_add (test_mod.AddTests)"],
        }
        for number in (2, 1)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = EvalOptions(
        source=str(tmp_path / "tasks.jsonl"), out=tmp_path / "out", samples=1, images=IMAGES,
        checkouts=(tmp_path / "clones",),
    )  # fmt: skip
    try:
        with scripted_endpoint(SCRIPT) as server:
            settings = Settings(
                _env_file=None,
                main=ModelSettings(base_url=server.base_url),
                solver=SolverSettings(profile="full", test_timeout=PATIENCE),
                sandbox=SandboxSettings(concurrency=1, setup_timeout=PATIENCE),
            )
            assert await run(asked, settings) == 3
    finally:
        client.remove_image(image, force=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (left_out,) = report["left_out"]
    assert left_out.startswith("owner__name-2: the image 127.0.0.1:1/bench.owner_1776_name-2:1 is not here")
    (sample,) = map(json.loads, (tmp_path / "out" / "samples.jsonl").read_text().splitlines())
    assert (sample["task"], sample["solves"], sample["selected"]) == ("owner__name-1", True, True)
