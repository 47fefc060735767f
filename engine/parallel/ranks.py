"""The processes of a tensor-parallel engine: rank 0 schedules, samples and serves; the others follow it.

Rank 0 writes every command (a step's packed batch, a copy of cache slots) to a socket pair of each follower, which
does the same to its shard. Unlike a broadcast, a socket may stay silent for hours without timing out, and it closes
when the other side is gone. Only the model's own sums and gathers go over `torch.distributed` (NCCL on CUDA, gloo on
the CPU).

When one process ends, all end: each handle is watched, so that none hangs in a sum that never completes.
"""

import contextlib
import io
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine import logs
from engine.errors import LoadError, RankError

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # of one sum; covers loads of different speed too
START_TIMEOUT = 120.0  # seconds until a follower has imported what it needs
END_TIMEOUT = 20.0  # seconds that a follower has to end by itself


def open_store(port: int, listener: int | None = None) -> Any:
    """Where the processes of a group find each other: on the loopback interface alone.

    Args:
        port: of the store.
        listener: descriptor of the socket that listens there already; only rank 0 has one.
    """
    own: dict[str, Any] = (
        {} if listener is None else {"is_master": True, "wait_for_workers": False, "master_listen_fd": listener}
    )
    return dist.TCPStore("127.0.0.1", port, timeout=COLLECTIVE_TIMEOUT, **own)  # type: ignore[attr-defined]


def join(rank: int, size: int, device: str, store: Any) -> torch.device:
    """Make this process member `rank` of the default group, over the loopback interface alone; return its device."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    os.environ["LOCAL_RANK"] = str(rank)  # `transformers` takes this one's device
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=place if device == "cuda" else None,
    )
    return place


def dumps(message: tuple[Any, ...]) -> bytes:
    """A command as bytes: tensors as arrays, and devices as "the reader's own"."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()


def loads(data: bytes, device: torch.device) -> tuple[Any, ...]:
    """The command that `dumps` wrote, its tensors on `device`. Only for what this engine's rank 0 wrote."""
    _here.device = device
    message: tuple[Any, ...] = pickle.loads(data)  # noqa: S301 written by our own parent, over a socket pair
    return message


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _tensor, (value.cpu().numpy(),)
        if isinstance(value, torch.device):
            return _device, ()
        return NotImplemented


_here = threading.local()


def _device() -> torch.device:
    device: torch.device = _here.device
    return device


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array).to(_here.device)


class Ranks:
    """The followers, as rank 0 sees them. One at a time in a process.

    `tell` belongs to the thread that computes; `fail` and `close` may be called from any.
    """

    def __init__(self, size: int, device: str, threads: int | None = None) -> None:
        """Start the followers and join them in a group; this process becomes rank 0.

        Args:
            size: processes, this one included; at least 2.
            device: `cpu` or `cuda`: one GPU for each process.
            threads: of torch in each follower; `None` leaves torch's choice.

        Raises:
            LoadError: there are fewer GPUs, or a follower did not come up.
        """
        gpus = torch.cuda.device_count()
        if device == "cuda" and gpus < size:
            raise LoadError(f"--tensor-parallel {size} needs {size} GPUs, one for each process, but there are {gpus}")
        if device == "cpu" and gpus:  # `transformers` would split over those
            raise LoadError("to split over processes on the CPU, hide the GPUs: set CUDA_VISIBLE_DEVICES to nothing")
        self.size = size
        self.error: RankError | None = None
        self._device = device
        self._closing = False
        self._failed = threading.Event()
        self._lock = threading.Lock()
        self._on_failure: Callable[[RankError], None] = lambda error: None
        self._followers: list[_Follower] = []
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        store = open_store(port, listener.detach())
        try:
            for rank in range(1, size):
                self._followers.append(_Follower(rank, size, device, port, threads, self.fail))
            self._hear("ready", START_TIMEOUT)
            join(0, size, device, store)
        except Exception as error:
            self.close()
            raise LoadError(f"the processes of the engine did not come up: {error}") from error

    def on_failure(self, call: Callable[[RankError], None]) -> None:
        """Have `call` called in a thread of its own when a follower dies."""
        self._on_failure = call
        if self.error is not None:
            call(self.error)

    def tell(self, what: str, *arguments: Any) -> None:
        """Have every follower do `what`; see `engine.parallel.follower.follow`.

        Raises:
            RankError: one of them is gone.
        """
        if self.error is not None:
            raise self.error
        data = dumps((what, *arguments))
        with self.together():
            for follower in self._followers:
                follower.connection.send_bytes(data)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """The code inside runs in every follower, too: an error in it leaves them out of step, which ends the engine.

        Raises:
            RankError: instead of any other error inside than a `LoadError`.
        """
        try:
            yield
        except (RankError, LoadError):
            raise
        except Exception as error:
            if not self._failed.wait(2.0):  # seconds: a dead process explains more, but is noticed later
                self.fail(f"the engine's processes are out of step: {type(error).__name__}: {error}")
            assert self.error is not None
            raise self.error from error

    def loaded(self) -> None:
        """Wait until every follower has loaded the model.

        Raises:
            RankError: one could not.
        """
        with self.together():
            self._hear("loaded", COLLECTIVE_TIMEOUT.total_seconds())

    def fail(self, reason: str) -> None:
        """End all followers: the engine can't go on."""
        with self._lock:
            if self._closing or self.error is not None:
                return
            self.error = RankError(f"the engine ends: {reason}")
            self._failed.set()
        logger.error("%s", self.error)
        for follower in self._followers:
            follower.process.kill()
        threading.Thread(target=self._on_failure, args=(self.error,), name="ranks", daemon=True).start()

    def close(self) -> None:
        """End the followers and the group; safe to call again."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        for follower in self._followers:
            with contextlib.suppress(OSError):
                follower.connection.send_bytes(dumps(("stop",)))
        if dist.is_initialized() and (self.error is None or self._device == "cpu"):  # NCCL would wait for the dead
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
        for follower in self._followers:
            follower.end()

    @property
    def processes(self) -> list[subprocess.Popen[str]]:
        """Of the followers."""
        return [follower.process for follower in self._followers]

    def _hear(self, word: str, timeout: float) -> None:
        for follower in self._followers:
            try:
                heard = follower.connection.recv() if follower.connection.poll(timeout) else "nothing"
            except (EOFError, OSError):
                heard = f"nothing more; its last line was: {follower.last_line}"
            if heard != word:
                raise RuntimeError(f"process {follower.rank} of {self.size} says {heard}")


class _Follower:
    """One child process, its socket, what it prints, and the thread that waits for its end."""

    def __init__(
        self, rank: int, size: int, device: str, port: int, threads: int | None, fail: Callable[[str], None]
    ) -> None:
        self.rank = rank
        self.last_line = ""
        self._size = size
        self._fail = fail
        self.connection, theirs = Pipe()
        root = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONUNBUFFERED": "1", logs.LEVEL: logs.level()}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        arguments = [str(number) for number in (rank, size, port, theirs.fileno(), os.getpid())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.parallel.follower", device, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C in the terminal is for rank 0, which then ends the others
        )
        theirs.close()
        self._threads = [
            threading.Thread(target=self._print, args=(self.process.stdout, sys.stdout), daemon=True),
            threading.Thread(target=self._print, args=(self.process.stderr, sys.stderr), daemon=True),
            threading.Thread(target=self._wait, name=f"rank {rank}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _print(self, source: IO[str], target: IO[str]) -> None:
        for line in source:
            if line.strip():
                self.last_line = line.strip()
                print(f"[rank {self.rank}] {line.rstrip()}", file=target, flush=True)

    def _wait(self) -> None:
        code = self.process.wait()
        for thread in self._threads[:2]:
            thread.join(1.0)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = f"; its last line was: {self.last_line}" if self.last_line and code >= 0 else ""
        self._fail(f"process {self.rank} of {self._size} ended with {how}{said}")

    def end(self) -> None:
        """Wait for the process to end, then kill it."""
        try:
            self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.connection.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(2.0)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
