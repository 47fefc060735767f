"""Shards: exercises as token arrays on disk. One process makes them ahead of the training."""

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bot.atomic import SHARED, atomic_write
from bot.capuchin.exercises.scenes import Scenes
from bot.capuchin.exercises.tasks import exercise
from bot.capuchin.training import tokenizer as tok

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

MAX_TOKENS = 1920
SHARD = 3000  # exercises
Shares = tuple[float, float, float, float]  # of exercises with tiny files, small ones, real sizes, excerpts
COURSE: tuple[tuple[int, Shares], ...] = (  # from which shard on
    (0, (0.0, 1.0, 0.0, 0.0)),
    (7, (0.5, 0.3, 0.2, 0.0)),
    (15, (0.3, 0.1, 0.05, 0.55)),
)
SETTLED = COURSE[-1][0]  # the shard from which on the shares stay the same: a trained checkpoint continues here


def write_shard(
    scenes: Scenes,
    tokenizer: "Tokenizer",
    path: Path,
    seed: int,
    count: int = SHARD,
    shares: Shares = COURSE[0][1],
) -> None:
    """Write one shard: `ids` and `classes` of all exercises, concatenated, and `lengths`. Deterministic by seed."""
    rng = random.Random(f"shard {seed}")
    ids: list[int] = []
    classes: list[int] = []
    lengths: list[int] = []
    while len(lengths) < count:
        scenes.size = rng.choices(range(len(shares)), shares)[0]
        _, turns = exercise(scenes, rng)
        one, kinds = tok.encode(tokenizer, turns)
        if len(one) <= MAX_TOKENS:
            ids += one
            classes += kinds
            lengths.append(len(one))
    with atomic_write(path, SHARED) as file:
        np.savez(
            file, ids=np.array(ids, np.uint16), classes=np.array(classes, np.uint8), lengths=np.array(lengths, np.int32)
        )


def read_shard(path: Path) -> list[tuple["NDArray[np.uint16]", "NDArray[np.uint8]"]]:
    """The exercises of a shard, as (ids, classes)."""
    with np.load(path) as data:
        cuts = np.cumsum(data["lengths"])[:-1]
        return list(zip(np.split(data["ids"], cuts), np.split(data["classes"], cuts), strict=True))


def produce(scenes: Scenes, tokenizer: "Tokenizer", folder: Path, seed: int, ahead: int = 6) -> None:
    """Write shards 0, 1, 2, ... while the parent lives, at most `ahead` more than have been taken (and deleted)."""
    folder.mkdir(parents=True, exist_ok=True)
    number, parent = 0, os.getppid()
    while os.getppid() == parent:  # a killed parent can't stop this process
        taken = folder / "taken"
        done = int(taken.read_text() or 0) if taken.exists() else 0
        number = max(number, done)
        if number >= done + ahead:
            time.sleep(1.0)
            continue
        path = folder / f"{number:05}.npz"
        if not path.exists():
            shares = next(shares for first, shares in reversed(COURSE) if number >= first)
            write_shard(scenes, tokenizer, path, seed * 100_000 + number, shares=shares)
        number += 1
