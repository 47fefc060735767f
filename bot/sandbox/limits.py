"""Control groups for the process sandbox, where this process may make some."""

import contextlib
import os
import re
from pathlib import Path


class ControlGroup:
    """One group with a memory and a process limit, joined by one job at a time. In practice this needs root."""

    def __init__(self, name: str, memory: int, pids: int, root: Path = Path("/sys/fs/cgroup")) -> None:
        """Make the group. Raises `OSError` where that is not allowed or the controllers are not there."""
        self.folders: list[Path] = []
        try:
            if (root / "cgroup.controllers").exists():  # version 2
                self._events = self._make(root / name) / "memory.events"
                self._set("memory.max", memory)
                self._set("pids.max", pids)
                if (self.folders[0] / "memory.swap.max").exists():
                    self._set("memory.swap.max", 0)
            else:
                self._events = self._make(root / "memory" / name) / "memory.oom_control"
                self._set("memory.limit_in_bytes", memory)
                self._make(root / "pids" / name)
                (self.folders[1] / "pids.max").write_text(str(pids))
        except OSError:
            self.close()
            raise

    def _make(self, folder: Path) -> Path:
        folder.mkdir()
        self.folders.append(folder)
        return folder

    def _set(self, file: str, value: int) -> None:
        (self.folders[0] / file).write_text(str(value))

    @property
    def join_files(self) -> list[str]:
        """Files into which a process writes its id to join."""
        return [str(folder / "cgroup.procs") for folder in self.folders]

    @property
    def memory_kills(self) -> int:
        """How often the memory limit killed a process of the group."""
        found = re.search(r"^oom_kill (\d+)", self._events.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Remove the group; its processes must be gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        self.folders = []
