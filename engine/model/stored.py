"""The tensors of a checkpoint's safetensors files, each read from its memory-mapped file when it is needed.

`transformers`' loader takes a mapping of names to things that are read when they are indexed, puts each tensor into its
parameter and lets go of it. So a model is held once, whatever is done to a tensor on the way.
"""

import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import LoadError, one_line
from engine.model.memory import size

PERIOD = 5.0  # seconds between two lines of progress
_log = logging.getLogger(__name__)


class Progress:
    """Says how much of a checkpoint was read: at most once in `PERIOD`, and at the end. Several threads tell it."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            name: of the checkpoint.
            now: seconds.
        """
        self._name = name
        self._now = now
        self._lock = threading.Lock()
        self._left: dict[str, tuple[Path, int]] = {}  # of each tensor that was not read: its file, its bytes
        self._in_files: Counter[Path] = Counter()  # how many of these there are
        self._all = self._read = 0  # bytes
        self._begin = self._said = now()

    def expect(self, name: str, file: Path, count: int) -> None:
        """A tensor of `count` bytes will be read from `file`."""
        self._left[name] = file, count
        self._in_files[file] += 1
        self._all += count

    def read(self, name: str) -> None:
        """That tensor was read, or a part of it."""
        with self._lock:
            if name not in self._left:
                return
            file, count = self._left.pop(name)
            self._in_files[file] -= 1
            self._read += count
            if self._now() - self._said >= PERIOD:
                self._said = self._now()
                left = (self._said - self._begin) * (self._all - self._read) / max(1, self._read)
                self._say(f"about {left:.0f} s left")

    def finish(self) -> None:
        """All that the model needs was read."""
        self._say(f"in {self._now() - self._begin:.1f} s")

    def _say(self, when: str) -> None:
        done = sum(not left for left in self._in_files.values())
        amounts = done, len(self._in_files), size(self._read), size(self._all)
        _log.info("%s: %d of %d files of weights, %s of %s read, %s", self._name, *amounts, when)


class Stored:
    """A tensor in a file: what `transformers`' loader uses of a slice of safetensors."""

    __slots__ = ("_name", "_progress", "_slice")

    def __init__(self, name: str, opened: Any, progress: Progress) -> None:
        """
        Args:
            name: of the tensor.
            opened: its file, by `safe_open`.
            progress: is told when it is read.
        """
        self._name = name
        self._slice = opened.get_slice(name)
        self._progress = progress

    @property
    def dtype(self) -> str:
        """Of its numbers, as safetensors names it: `BF16`, `F8_E4M3`, `BOOL`, ..."""
        return str(self._slice.get_dtype())

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        bits = re.search(r"\d+", self.dtype)  # `BOOL` has none and takes 8
        return prod(self.get_shape()) * int(bits[0] if bits else 8) // 8

    def get_shape(self) -> list[int]:
        """Of the whole tensor."""
        found: list[int] = self._slice.get_shape()
        return found

    def __getitem__(self, index: Any) -> Tensor:
        """The part that `index` names, `...` for all, mapped from the file or read from it."""
        found: Tensor = self._slice[index]
        self._progress.read(self._name)
        return found


def open_weights(folder: Path, progress: Progress) -> dict[str, Stored]:
    """Every tensor of the folder's safetensors files by its name, none of them read; empty if it has no such files.

    Args:
        folder: of the checkpoint.
        progress: is told what there is, and later what was read.

    Raises:
        LoadError: a file is missing, cut short or damaged, or two of them hold a tensor of the same name.
    """
    found: dict[str, Stored] = {}
    places: dict[str, Path] = {}
    for file in weight_files(folder):
        try:
            opened: Any = safe_open(file, framework="pt")
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                if name in found:
                    raise LoadError(
                        f"{name} is in {places[name].name} and in {file.name} of {folder}: files of two checkpoints "
                        "are mixed there; fetch it again into an empty folder"
                    )
                found[name] = Stored(name, opened, progress)
                places[name] = file
                progress.expect(name, file, found[name].bytes)
        except (OSError, SafetensorError) as error:
            raise LoadError(f"{file} is missing, cut short or damaged ({one_line(error)}); fetch it again") from error
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a checkpoint: those that its index names, where it has one. Others may be beside
    them, such as the same weights under other names.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else []
