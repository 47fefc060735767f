"""Which process made a container or an image, and whether it is still there: what a killed worker left is removed."""

import functools
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

_CONTAINER = re.compile(r"[0-9a-f]{12,64}")


@functools.cache
def _of_process(pid: int) -> str:
    """`pid` is this process, an argument so that a fork is asked anew."""
    return " ".join((_boot(), _namespace(), str(pid), _started(pid), _container(), str(int(time.time()))))


def this() -> str:
    """This process as a label: boot, namespace, number and start of the process, its container, and the time now."""
    return _of_process(os.getpid())


def is_gone(label: str, container_started: Callable[[str], float | None]) -> bool:
    """Whether the process of the label has certainly ended.

    A process of this machine and of our own namespace can be looked up. One that runs in a container is gone with it:
    `container_started` tells since when that runs, in seconds since 1970, or None. Of others nothing is known.
    """
    parts = label.split(" ")
    if len(parts) != 6:
        return False
    boot, namespace, pid, started, container, made = parts
    if "" not in (boot, namespace) and (boot, namespace) == (_boot(), _namespace()):
        return _started(int(pid)) != started
    if container != "-":
        since = container_started(container)
        return since is None or since > float(made) + 1
    return False


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id") or "-"


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


def _started(pid: int) -> str:
    """Ticks since boot; "-" where there is no such process, or a dead one."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else "-"


def _container() -> str:
    """The container that this process is in, by the name that Docker gives the host in it."""
    name = socket.gethostname()
    return name if os.path.exists("/.dockerenv") and _CONTAINER.fullmatch(name) else "-"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
