"""One replica: an actor that runs the engine's process, the very same that `troop engine` is without replicas.

The engine is a process of its own so that nothing of Ray shares its interpreter lock with the loop that feeds the GPU.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from engine.errors import LoadError
from engine.settings import Settings

API_KEY = "TROOP_ENGINE_API_KEY"
READY = "troop engine ready on "
BETWEEN_STARTS = 5.0  # seconds after an engine that did not start
END_TIMEOUT = 20.0  # seconds that an engine has to end
_OF_THE_CLUSTER = {"replicas", "ray_address", "api_key"}
_ALWAYS = {"log_level"}  # also as it is by default: the replica's environment may have another


def arguments(settings: Settings) -> list[str]:
    """The command line of one replica: `engine.cli` reads the same settings from it, but for those of the cluster."""
    return list(_arguments(settings))


def _arguments(settings: Settings) -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name in _OF_THE_CLUSTER or (value == field.default and name not in _ALWAYS):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            yield option
        elif value is False:
            yield f"--no-{option[2:]}"
        else:
            yield option
            yield ",".join(value) if isinstance(value, tuple) else str(value)


class EngineProcess:
    """Starts the engine and ends with it: Ray starts an actor again whose process ended, and this one with it."""

    def __init__(self, settings: Settings, key: str, host: str | None) -> None:
        """
        Args:
            settings: of the whole cluster.
            key: that requests to this replica must carry.
            host: address to listen on; `None`: that of this machine in its cluster.
        """
        if host is None:
            import ray  # an actor's process has it

            host = ray.util.get_node_ip_address()
        own = settings.model_copy(update={"host": host, "port": 0, "follow_stdin": True})
        # In a session of its own: Ctrl-C in a terminal is for the address that requests come to, which drains first.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments(own)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {API_KEY: key},
            start_new_session=True,
        )
        self._url = ""
        self._last_words = ""
        self._started = threading.Event()  # the engine is ready, or has ended
        self._stopping = False
        self._listening = threading.Thread(target=self._pass_on, args=(self._process.stderr,), daemon=True)
        self._listening.start()
        threading.Thread(target=self._wait, args=(self._process.stdout,), daemon=True).start()

    def address(self) -> str:
        """Where the engine serves; waits until it does.

        Raises:
            LoadError: it ended, with the last thing that it said.
        """
        self._started.wait()
        if not self._url:
            raise LoadError(self._last_words or f"the engine ended with status {self._process.returncode}")
        return self._url

    def stop(self) -> None:
        """End the engine as a signal would, and wait until it has ended."""
        self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _pass_on(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                sys.stderr.write(line)
                sys.stderr.flush()
                if line.strip():
                    self._last_words = line.strip().removeprefix("troop engine: ")

    def _wait(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if line.startswith(READY):
                    self._url = line.removeprefix(READY).strip()
                    self._started.set()
        self._process.wait()
        if self._stopping:
            return
        if not self._url:
            self._listening.join()  # to its last words
            self._started.set()
            time.sleep(BETWEEN_STARTS)  # so that `address` can tell, and a machine is not kept busy by starts
        self._end()

    def _end(self) -> None:
        os._exit(1)
