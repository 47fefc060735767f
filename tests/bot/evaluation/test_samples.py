import subprocess
import sys
from pathlib import Path

import pytest

from bot.errors import EvaluationError
from bot.evaluation.files import name_of
from bot.evaluation.samples import SAMPLES, About, Sample, SampleFile
from bot.records import Usage

ABOUT = About(tasks="t", kind="functions", number=2, digest="d", model="m", temperature=0.6, seed=0, max_tokens=9)


def sample(task: str, number: int, solves: bool = False) -> Sample:
    return Sample(task=task, sample=number, solves=solves, text="x" * 1000, usage=Usage(calls=1, completion_tokens=5))


def test_what_was_added_is_there_after_a_restart(tmp_path: Path):
    with SampleFile(tmp_path, ABOUT, ["a", "b"]) as file:
        file.add(sample("a", 0, True))
        file.add(sample("b", 3))
    with SampleFile(tmp_path, ABOUT, ["a", "b"]) as file:
        assert file.done == 2
        assert file.has("a", 0)
        assert file.has("b", 3)
        assert not file.has("b", 2)
        assert not file.has("a", 99)
        assert file.counts() == [(1, 1), (1, 0)]
        assert file.counts(2) == [(1, 1), (0, 0)]
        assert file.usage.completion_tokens == 10


def test_a_line_that_a_kill_cut_off_is_drawn_again(tmp_path: Path):
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        file.add(sample("a", 0))
        file.add(sample("a", 1))
    path = tmp_path / SAMPLES
    path.write_bytes(path.read_bytes()[:-20])
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        assert file.counts() == [(1, 0)]
        file.add(sample("a", 1, True))
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        assert file.counts() == [(2, 1)]


def test_tasks_that_were_changed_since_are_not_mixed_in(tmp_path: Path):
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        file.add(sample("a", 0))
    with pytest.raises(EvaluationError, match=r"another evaluation \(its tasks were others\): give another --out"):
        SampleFile(tmp_path, ABOUT.model_copy(update={"digest": "e"}), ["a"])
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        assert file.done == 1


def test_another_evaluation_is_not_mixed_in(tmp_path: Path):
    with SampleFile(tmp_path, ABOUT, ["a"]):
        pass
    with pytest.raises(EvaluationError, match=r"temperature was 0\.6, seed was 0\): give another --out"):
        SampleFile(tmp_path, ABOUT.model_copy(update={"temperature": 1.0, "seed": 1}), ["a"])
    with SampleFile(tmp_path, ABOUT, ["a"]):  # the refusal let go of the file
        pass


OTHER = """
import sys
from pathlib import Path
from bot.evaluation.samples import SampleFile
from tests.bot.evaluation.test_samples import ABOUT, sample
with SampleFile(Path(sys.argv[1]), ABOUT, ["a", "b"]) as file:
    print(file.claim("a", 0), file.claim("a", 0), file.claim("b", 0), file.claim_report(), flush=True)
    sys.stdin.readline()
    file.add(sample("a", 0, True))
    file.release("a", 0)
    print("added", flush=True)
    sys.stdin.readline()
"""


def test_several_processes_fill_one_file_and_a_killed_one_holds_nothing(tmp_path: Path):
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with (
        SampleFile(tmp_path, ABOUT, ["a", "b"]) as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "True False True True\n"
        assert [file.claim("a", 0), file.claim("b", 0), file.claim("b", 1)] == [False, False, True]
        assert not file.holds("b", 0)
        assert not file.claim_report()
        file.add(sample("b", 1))
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "added\n"
        assert not file.claim("a", 0), "it is there"
        assert file.counts() == [(1, 1), (1, 0)]
        other.kill()
        other.wait()
        assert file.claim("b", 0)
        assert file.claim_report()
    lines = (tmp_path / SAMPLES).read_text().splitlines()
    assert [Sample.model_validate_json(line).sample for line in lines] == [1, 0]


@pytest.mark.parametrize(("line", "said"), [(b"{}\n", "line 1"), (b'{"task": "z"}\n', "line 1"), (b"\xff\n", "line 1")])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: bytes, said: str):
    (tmp_path / SAMPLES).write_bytes(line)
    with pytest.raises(EvaluationError, match=said):
        SampleFile(tmp_path, ABOUT, ["a"])


def test_a_sample_of_an_unknown_task_is_refused(tmp_path: Path):
    (tmp_path / SAMPLES).write_text(sample("z", 0).model_dump_json() + "\n")
    with pytest.raises(EvaluationError, match="z, which is not among the tasks"):
        SampleFile(tmp_path, ABOUT, ["a"])


FULL = """
import resource, signal, sys
from pathlib import Path
from bot.errors import EvaluationError
from bot.evaluation.samples import SampleFile
from tests.bot.evaluation.test_samples import ABOUT, sample
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with SampleFile(Path(sys.argv[1]), ABOUT, ["a"]) as file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    for number in range(9):
        try:
            file.add(sample("a", number))
        except EvaluationError as error:
            print(number, file.done, error)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    file.add(sample("a", number))
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path):
    """A limit on the size of files cuts a line off as a full disk does."""
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "2 2" in told
    assert "can't be written" in told
    assert "samples that are there are kept; make room" in told
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        assert file.counts() == [(3, 0)]


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match=r"file/out can't be written \(Not a directory\)"):
        SampleFile(tmp_path / "file" / "out", ABOUT, ["a"])


@pytest.mark.parametrize("task", ["..", ".", "a/b", "a b", "x" * 300, "a\0b", "é", "-a", "toolz:a/b.py:f:1"])
def test_every_id_has_a_files_name_of_its_own(task: str, tmp_path: Path):
    name = name_of(task)
    (tmp_path / name).write_text("")
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert name_of(name) == name != name_of(task + "x")
    assert name_of("owner__name-1") == "owner__name-1"


def test_memory_does_not_grow_with_the_replies(tmp_path: Path):
    with SampleFile(tmp_path, ABOUT, ["a"]) as file:
        for number in range(2000):
            file.add(sample("a", number))
        assert sum(len(marks) for marks in file._marks) == 2000
