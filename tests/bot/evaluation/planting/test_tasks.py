"""Planted bugs as a benchmark's file: read again, judged with and without the reference."""

import tarfile
from pathlib import Path

import pytest

from bot.cli import plant as command
from bot.errors import EvaluationError
from bot.evaluation.checkouts import TaskHost
from bot.evaluation.hidden import Judge
from bot.evaluation.planting.bugs import plant
from bot.evaluation.planting.packages import pinned_of, split, write_tree
from bot.evaluation.planting.tasks import write_tasks
from bot.evaluation.tasks import RepositoryTask, read_tasks
from bot.git.checkout import check_out
from bot.git.import_diff import read_patch
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings
from tests.bot.evaluation.planting.tiny import TINY


def test_a_package_is_found_where_it_lies() -> None:
    texts = {"src/my_pkg/__init__.py": "", "src/my_pkg/a.py": "", "tests/test_a.py": "", "docs/__init__.py": ""}
    package = split(pinned_of("My-Pkg==1.0", texts), {**texts, "README.md": ""})
    assert set(package.files) == {"my_pkg/__init__.py", "my_pkg/a.py", "README.md"}
    assert set(package.tests) == {"tests/test_a.py"}
    inside = {"other/__init__.py": "", "other/tests/test_a.py": "", "tests/conftest.py": ""}
    assert pinned_of("named-differently==1", inside).folder == "other"
    assert pinned_of("named-differently==1", inside).tests == "other/tests"
    with pytest.raises(EvaluationError, match="no package named x; its packages are: a, b"):
        pinned_of("x==1", {"a/__init__.py": "", "b/__init__.py": ""})


async def test_each_task_fails_on_its_commit_and_passes_with_its_reference(tmp_path: Path) -> None:
    write_tree(TINY.files, tmp_path / "tree")
    settings = SandboxSettings(kind="process")
    sandbox = await open_sandbox(settings, tmp_path / "tree", notice=lambda _: None)
    bugs = await plant(TINY, sandbox, 2, 2, seed=0)
    await sandbox.close()
    lines = write_tasks(TINY, bugs, tmp_path / "out" / "tiny")
    (tmp_path / "out" / "tasks.jsonl").write_text("\n".join(lines))
    tasks = read_tasks(str(tmp_path / "out" / "tasks.jsonl"), tmp_path)
    assert [task.id for task in tasks] == ["tiny-1", "tiny-2"]
    for task in tasks:
        assert isinstance(task, RepositoryTask)
        checkout = await check_out(TaskHost((tmp_path / "out",), task), task.repository, tmp_path / task.id)
        assert set(checkout.files) == set(TINY.files)
        hidden = await read_patch(checkout, task.test_patch, "tests")
        sandbox = await open_sandbox(settings, Path(checkout.root), notice=lambda _: None)
        judge = Judge(task, (), sandbox, hidden.changes)
        assert not (await judge.run(None)).passed
        assert (await judge.run(await read_patch(checkout, task.reference, "reference"))).passed
        await sandbox.close()


async def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EvaluationError, match="give its version"):
        await command.plant_package("tiny", tmp_path / "out", 1, 1, 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(EvaluationError, match="is not empty"):
        await command.plant_package("tiny==1", tmp_path / "full", 1, 1, 0)
    monkeypatch.setenv("TROOP_SANDBOX_KIND", "process")
    monkeypatch.setattr(command, "fetch", lambda requirement, folder: {**TINY.files, **TINY.tests})
    assert await command.plant_package("tiny==1", tmp_path / "out", 1, 5, 0) == 0
    assert "1 bug: troop eval run" in capsys.readouterr().out
    monkeypatch.setattr(command, "fetch", lambda requirement, folder: {"tiny/__init__.py": "", "tiny/a.py": "x = 1\n"})
    with pytest.raises(EvaluationError, match="no function whose doctests"):
        await command.plant_package("tiny==1", tmp_path / "none", 1, 5, 0)


def test_an_archive_is_read_without_writing(tmp_path: Path) -> None:
    from bot.evaluation.planting.packages import unpack

    write_tree({"a-1/a/__init__.py": "x", "a-1/data.bin": "y"}, tmp_path / "in")
    with tarfile.open(tmp_path / "a-1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in" / "a-1", "a-1")
    assert unpack(tmp_path / "a-1.tar.gz") == {"a/__init__.py": "x"}


@pytest.mark.parametrize("name", ["a-1/a/../../../b.py", "a-1//b.py"])
def test_an_archive_with_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    from bot.evaluation.planting.packages import unpack

    with tarfile.open(tmp_path / "a-1.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(EvaluationError, match="outside of its folder"):
        unpack(tmp_path / "a-1.tar.gz")
