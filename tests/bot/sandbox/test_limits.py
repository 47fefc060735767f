from pathlib import Path

import pytest

from bot.errors import SettingsError
from bot.sandbox.limits import ControlGroup, parse_size


def test_sizes() -> None:
    assert [parse_size(text) for text in ("2g", "512m", "1KB", "17", "1 GiB")] == [
        2 << 30,
        512 << 20,
        1024,
        17,
        1 << 30,
    ]
    with pytest.raises(SettingsError, match="TROOP_SANDBOX_MEMORY"):
        parse_size("much")


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
