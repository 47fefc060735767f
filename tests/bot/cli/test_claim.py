import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli.claim import NAME, claimed
from bot.errors import JournalBusy

HOLD = """
import sys
from pathlib import Path
from bot.cli.claim import claimed
with claimed(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, question: str) -> "subprocess.Popen[str]":
    """A process that holds the question until its input ends."""
    argv = [sys.executable, "-c", HOLD, str(folder), question]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_told_of_the_same_question_alone(tmp_path: Path) -> None:
    with holder(tmp_path, "one") as other:
        with pytest.raises(JournalBusy, match="with another state folder"), claimed(tmp_path, "one"):
            pass
        with claimed(tmp_path, "two"):
            pass
        assert (tmp_path / NAME).exists(), "the other process has its part of it"
        other.communicate()
    assert not (tmp_path / NAME).exists()


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path, "one") as other:
        other.kill()
    assert (tmp_path / NAME).exists()
    with claimed(tmp_path, "one"):
        pass
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("where", [None, "/proc/self", "missing/folder"])
def test_where_nothing_can_be_written_nobody_is_told(where: str | None) -> None:
    with claimed(Path(where) if where else None, "one"):
        pass
