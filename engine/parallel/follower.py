"""A process of a tensor-parallel engine other than rank 0: runs rank 0's commands on its shard.

`python -m engine.parallel.follower DEVICE RANK SIZE PORT FD PARENT`, started by `engine.parallel.ranks` alone.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist
import transformers

from engine import logs
from engine.errors import LoadError
from engine.model.model import Model
from engine.parallel.ranks import join, loads, open_store

# Methods of `Model` that rank 0 may ask for.
ON_MODEL = {"use_attention", "allocate", "forward", "copy", "copy_window", "copy_states", "scrub"}


def main(argv: Sequence[str]) -> int:
    """Follow until rank 0 says stop or is gone. Returns the exit status."""
    logs.begin(os.environ.get(logs.LEVEL, "info"))
    transformers.utils.logging.disable_progress_bar()
    device, (rank, size, port, descriptor, parent) = argv[0], map(int, argv[1:])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    torch.set_flush_denormal(True)  # as rank 0's thread does
    connection = Connection(descriptor)
    connection.send("ready")
    place = join(rank, size, device, open_store(port))
    try:
        return follow(connection, place, size)
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def follow(connection: Connection, device: torch.device, size: int) -> int:
    """Execute commands: `load` with path and options of `Model.load`, the names in `ON_MODEL`, `stop`."""
    model: Model | None = None
    while True:
        try:
            what, *arguments = loads(connection.recv_bytes(), device)
        except (EOFError, OSError):
            return 1  # rank 0 is gone
        if what == "stop":
            return 0
        if what == "load":
            try:
                path, options = arguments
                model = Model.load(path, **options, split=size)
            except LoadError as error:
                print(f"{error}", file=sys.stderr)
                return 1
            connection.send("loaded")
        elif what in ON_MODEL and model is not None:
            getattr(model, what)(*arguments)
        else:
            raise ValueError(f"rank 0 asks for {what!r}, which a follower can't do")


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even while it waits in a sum that never completes."""
    while os.getppid() == parent:
        time.sleep(1.0)  # seconds
    os._exit(1)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # skips the libraries' teardown, which takes seconds while rank 0 waits
