"""Training: takes shards as they are made, keeps to a budget of minutes or steps, and can be stopped and resumed."""

import dataclasses
import json
import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bot.capuchin import tokenizer as tok
from bot.capuchin.data import MAX_TOKENS, read_shard
from bot.capuchin.model import Capuchin, Shape
from bot.capuchin.optimizer import Optimizer, Rates

TOKENS = 3840  # a batch, whatever its length: divisible by every length below
LENGTHS = tuple(n for n in (160, 192, 240, 256, 320, 384, 480, 512, 640, 768, 960, 1280, 1536, 1920) if TOKENS % n == 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training run's settings. The rate falls from `flat` of the budget on, to zero at its end."""

    minutes: float = 80.0
    steps: int = 0  # a budget in steps instead of minutes, where not 0
    warmup: int = 100  # steps
    flat: float = 0.4
    double: float = 0.5  # from here on a step takes two batches
    prompt_share: float = 0.25  # of the prompt's tokens, drawn anew each time, that carry loss ...
    prompt_weight: float = 0.3  # ... and how much; a third of it in the second half
    quoted_weight: float = 0.5
    checkpoint_minutes: float = 4.0
    seed: int = 1


Row = tuple[NDArray[np.uint16], NDArray[np.uint8]]  # an exercise's ids and classes


class Shards:
    """Batches out of the producer's folder: like lengths together, every shard once, in order."""

    def __init__(self, folder: Path, seed: int, number: int = 0) -> None:
        self.folder, self.number, self.rng = folder, number, random.Random(f"batches {seed} {number}")
        self.kept: dict[int, list[Row]] = {length: [] for length in LENGTHS}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (ids, classes), int64 and uint8 [TOKENS / length, length]; waits for the producer where it must."""
        while True:
            path = self.folder / f"{self.number:05}.npz"
            while not path.exists():
                time.sleep(0.5)
            for row in read_shard(path):
                if len(row[0]) <= MAX_TOKENS:
                    self.kept[next(n for n in LENGTHS if n >= len(row[0]))].append(row)
            path.unlink()
            self.number += 1
            (self.folder / "taken").write_text(str(self.number))
            batches: list[tuple[int, list[Row]]] = []
            for length, rows in self.kept.items():
                self.rng.shuffle(rows)
                size = TOKENS // length
                while len(rows) >= size:
                    batches.append((length, [rows.pop() for _ in range(size)]))
            self.rng.shuffle(batches)
            for length, batch in batches:
                ids = torch.zeros(len(batch), length, dtype=torch.long)
                classes = torch.full((len(batch), length), tok.SILENT, dtype=torch.uint8)
                for place, (one, kinds) in enumerate(batch):
                    ids[place, : len(one)] = torch.from_numpy(one.astype(np.int64))
                    classes[place, : len(one)] = torch.from_numpy(kinds)
                yield ids, classes


def weigh(classes: Tensor, plan: Plan, progress: float) -> Tensor:
    """How much each token's prediction counts, float32 like `classes`."""
    weights = torch.zeros(classes.shape)
    weights[classes == tok.REPLY] = 1.0
    weights[classes == tok.QUOTED] = plan.quoted_weight
    drawn = (classes == tok.PROMPT) & (torch.rand(classes.shape) < plan.prompt_share)
    weights[drawn] = plan.prompt_weight * (1.0 if progress < 0.5 else 1 / 3)
    return weights


def factor(plan: Plan, step: int, progress: float) -> float:
    """The learning rate's height, 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, plan.warmup))
    return warm * (1.0 if progress < plan.flat else max(0.0, (1 - progress) / (1 - plan.flat)))


def train(folder: Path, shards: Path, plan: Plan, shape: Shape, rates: Rates, compiled: bool = True) -> Capuchin:
    """Train to the end of the budget, resuming from `folder/state.pt`; log to `training.jsonl` there."""
    torch.manual_seed(plan.seed)
    net = Capuchin(shape, compiled=compiled).bfloat16()
    optimizer = Optimizer(net, rates)
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "state.pt"
    elapsed, tokens, number = 0.0, 0, 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        optimizer.restore(state["optimizer"])
        elapsed, tokens, number = state["elapsed"], state["tokens"], state["shard"]
    batches = Shards(shards, plan.seed, number)
    recent: deque[float] = deque(maxlen=100)
    since = 0  # tokens since the last line of the log
    mark = began = last_saved = time.monotonic()
    start = elapsed

    def save() -> None:
        part = saved.with_suffix(".part")
        state = {"optimizer": optimizer.state(), "elapsed": elapsed, "tokens": tokens, "shard": batches.number}
        torch.save(state, part)
        part.rename(saved)

    pending = 0  # batches whose gradients wait for a step
    for ids, classes in batches:
        step = optimizer.steps
        elapsed = start + time.monotonic() - began
        progress = step / plan.steps if plan.steps else elapsed / 60 / plan.minutes
        if progress >= 1:
            break
        loss, reply = net.loss(ids, weigh(classes, plan, progress))
        loss.backward()  # type: ignore[no-untyped-call]
        tokens += ids.numel()
        since += ids.numel()
        recent.append(float(reply))
        pending += 1
        if pending < (2 if progress >= plan.double else 1):
            continue
        optimizer.step(factor(plan, step, progress))
        pending = 0
        if step % 50 == 0:
            now = time.monotonic()
            speed, since = since / max(now - mark, 1e-9), 0
            mark = now
            mean = sum(recent) / len(recent)
            left = (1 - progress) * (plan.minutes if not plan.steps else (plan.steps * (elapsed / max(step, 1)) / 60))
            row = {
                "step": step,
                "tokens": tokens,
                "loss": round(float(loss), 4),
                "reply": round(mean, 4),
                "speed": round(speed),
                "minutes": round(elapsed / 60, 2),
            }
            shown = f"step {step:5}  {tokens / 1e6:6.2f} M tokens  loss {float(loss):.3f}  reply {mean:.3f}"
            print(f"{shown}  {speed:6.0f} tok/s  {left:5.1f} min left", flush=True)
            with (folder / "training.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - last_saved > plan.checkpoint_minutes * 60:
            save()
            last_saved = time.monotonic()
    save()
    return net
