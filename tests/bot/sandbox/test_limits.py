from pathlib import Path

import pytest

from bot.sandbox.limits import ControlGroup


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    group = ControlGroup("job", 1000, 50, tmp_path)
    assert (tmp_path / "job/memory.max").read_text() == "1000"
    assert (tmp_path / "job/pids.max").read_text() == "50"
    (tmp_path / "job/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.memory_kills == 2
    assert group.join_files == [str(tmp_path / "job/cgroup.procs")]
    with pytest.raises(OSError, match="exists"):
        ControlGroup("job", 1000, 50, tmp_path)
