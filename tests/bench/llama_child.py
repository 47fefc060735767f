"""llama.cpp in a process of its own, so that it can wait for its threads in its own way.

torch and llama.cpp each bring an OpenMP. The engine's threads sleep where they have nothing to do
(`OMP_WAIT_POLICY=PASSIVE`); llama.cpp's usually spin for a while, which suits its many small steps, unless torch's do
so beside them.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from engine.schedule.sequence import SamplingParams
from tests.bench.llama_baseline import Branch, Choice, LlamaCpp
from tests.bench.timing import Timing, Watch

POLICY = "OMP_WAIT_POLICY"
WARM_PROMPT, WARM_NEW = 64, 4  # tokens


class Way(NamedTuple):
    """How llama.cpp computes, and how its threads wait."""

    choice: Choice
    passive: bool

    def __str__(self) -> str:
        return f"{self.choice}, {'sleeping' if self.passive else 'spinning'} threads"


class LlamaChildren:
    """llama.cpp over one GGUF file, in a child for each way of waiting. `close` it."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._children: dict[bool, ProcessPoolExecutor] = {}

    def time(self, way: Way, prompt: list[int], samples: int, new: int, greedy: bool = False) -> Timing:
        """One run, warmed up. Raises `RuntimeError` where llama.cpp takes none of it."""
        call = (self._path, way.choice, self._threads, prompt, samples, new, greedy)
        return self._child(way.passive).submit(_time, *call).result()

    def close(self) -> None:
        """End the children."""
        for child in self._children.values():
            child.shutdown()
        self._children.clear()

    def rest(self) -> None:
        """Give back the memory of models; the next `time` loads one again."""
        for child in self._children.values():
            child.submit(_drop).result()

    def _child(self, passive: bool) -> ProcessPoolExecutor:
        if passive not in self._children:
            usual = os.environ.pop(POLICY, None)
            try:
                if passive:
                    os.environ[POLICY] = "PASSIVE"
                child = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
                child.submit(torch.set_num_threads, self._threads).result()  # starts it, in this environment
            finally:
                os.environ.pop(POLICY, None)
                if usual is not None:
                    os.environ[POLICY] = usual
            self._children[passive] = child
        return self._children[passive]


_held: dict[tuple[object, ...], LlamaCpp] = {}  # in a child: the one in use


def _drop() -> None:
    while _held:
        _held.popitem()[1].close()


def _time(path: Path, choice: Choice, threads: int, prompt: list[int], samples: int, new: int, greedy: bool) -> Timing:
    cells = len(prompt) + samples * new
    key = (path, choice, threads, cells, samples)
    if key not in _held:
        _drop()
        _held[key] = LlamaCpp(path, choice, threads=threads, cells=cells, sequences=samples)
        warm = Branch(prompt[-WARM_PROMPT:], samples)
        _held[key].generate([warm], min(new, WARM_NEW), SamplingParams())
    params = SamplingParams(temperature=0.0 if greedy else 1.0)
    watch = Watch(samples)
    found = _held[key].generate([Branch(prompt, samples)], new, params, watch.mark)
    return watch.read(samples * new, found)
