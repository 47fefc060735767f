"""Training on shards as they are made, within a budget of minutes or steps. Can be stopped and resumed."""

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
from safetensors.torch import load_file
from torch import Tensor

from bot.atomic import SHARED, atomic_write
from bot.capuchin.training import parallel
from bot.capuchin.training import tokenizer as tok
from bot.capuchin.training.data import MAX_TOKENS, SETTLED, read_shard
from bot.capuchin.training.model import Capuchin, Shape
from bot.capuchin.training.optimizer import Optimizer, Rates, State

TOKENS = 1920  # of a process's batch; divisible by every length below
PATIENCE = 600.0  # seconds to wait for a shard
LENGTHS = tuple(n for n in (160, 192, 240, 256, 320, 384, 480, 512, 640, 768, 960, 1280, 1536, 1920) if TOKENS % n == 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a training run. The learning rate falls to zero after a share `flat` of the budget."""

    minutes: float = 80.0
    steps: int = 0  # budget in steps instead of minutes; 0: minutes
    warmup: int = 100  # steps
    flat: float = 0.4
    prompt_share: float = 0.25  # of the prompt's tokens, drawn at random, that have a loss ...
    prompt_weight: float = 0.3  # ... and its weight; a third of it in the second half
    quoted_weight: float = 0.5
    change_weight: float = 2.5  # of the first token that differs: a tiny model tends to copy the line unchanged
    checkpoint_minutes: float = 4.0
    seed: int = 1


Row = tuple[NDArray[np.uint16], NDArray[np.uint8]]  # an exercise's ids and classes


class Shards:
    """Batches of exercises of about the same length, from the producer's shards, each taken once, in order.

    Each of `size` processes, with the same arguments but its rank, gets the same number of different batches.
    """

    def __init__(self, folder: Path, seed: int, number: int = 0, rank: int = 0, size: int = 1) -> None:
        self.folder, self.number, self.rng = folder, number, random.Random(f"batches {seed} {number}")
        self.rank, self.size = rank, size
        self.kept: dict[int, list[Row]] = {length: [] for length in LENGTHS}

    def _take(self) -> None:
        path = self.folder / f"{self.number:05}.npz"
        began = time.monotonic()
        while not path.exists():
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"no {path} came in {PATIENCE:.0f} seconds: the process that makes shards has ended")
            time.sleep(0.2)
        for row in read_shard(path):
            if len(row[0]) <= MAX_TOKENS:
                self.kept[next(n for n in LENGTHS if n >= len(row[0]))].append(row)
        self.number += 1
        if self.rank == 0:  # others may still read this shard, but not the one before it
            (self.folder / f"{self.number - 2:05}.npz").unlink(missing_ok=True)
            (self.folder / "taken").write_text(str(self.number))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (ids, classes), int64 and uint8 [TOKENS / length, length]; waits for the producer."""
        while True:
            self._take()
            batches: list[tuple[int, list[Row]]] = []
            for length, rows in self.kept.items():
                self.rng.shuffle(rows)
                count = TOKENS // length
                while len(rows) >= count:
                    batches.append((length, [rows.pop() for _ in range(count)]))
            self.rng.shuffle(batches)
            for length, batch in batches[: len(batches) // self.size * self.size][self.rank :: self.size]:
                ids = torch.zeros(len(batch), length, dtype=torch.long)
                classes = torch.full((len(batch), length), tok.SILENT, dtype=torch.uint8)
                for place, (one, kinds) in enumerate(batch):
                    ids[place, : len(one)] = torch.from_numpy(one.astype(np.int64))
                    classes[place, : len(one)] = torch.from_numpy(kinds)
                yield ids, classes


def weigh(classes: Tensor, plan: Plan, progress: float) -> Tensor:
    """The weight of each token's prediction, float32 in the shape of `classes`."""
    weights = torch.zeros(classes.shape)
    weights[classes == tok.REPLY] = 1.0
    weights[classes == tok.QUOTED] = plan.quoted_weight
    weights[classes == tok.CHANGE] = plan.change_weight
    drawn = (classes == tok.PROMPT) & (torch.rand(classes.shape) < plan.prompt_share)
    weights[drawn] = plan.prompt_weight * (1.0 if progress < 0.5 else 1 / 3)
    return weights


def factor(plan: Plan, step: int, progress: float) -> float:
    """The learning rate relative to its maximum, 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, plan.warmup))
    return warm * (1.0 if progress < plan.flat else max(0.0, (1 - progress) / (1 - plan.flat)))


@dataclasses.dataclass(frozen=True)
class Job:
    """The arguments of every training process."""

    folder: Path  # of the log and of `state.pt`
    shards: Path
    plan: Plan
    shape: Shape
    rates: Rates
    compiled: bool = True
    tokens: int = 0  # seen before a resume
    shard: int = 0  # to begin with


def train(job: Job, workers: int = 1, start: Path | None = None) -> Capuchin:
    """Train to the end of the budget, resuming from `job.folder/state.pt`; log to `training.jsonl` there.

    `start`: the folder of a checkpoint to begin with instead of random weights, at the last stage of the course.
    """
    folder = job.folder
    torch.manual_seed(job.plan.seed)
    net = Capuchin(job.shape).bfloat16()
    if start is not None:
        net.from_transformers(load_file(start / "model.safetensors"))
        job = dataclasses.replace(job, shard=SETTLED)
    folder.mkdir(parents=True, exist_ok=True)
    team = parallel.team(net, workers)
    state = None
    if (folder / "state.pt").exists():
        saved = torch.load(folder / "state.pt", weights_only=True)
        state = saved["optimizer"]
        job = dataclasses.replace(job, tokens=saved["tokens"], shard=saved["shard"])
        team.clock[0] = saved["minutes"]
    optimizer = Optimizer(net, job.rates, state)
    parallel.run(_work, workers, (job, team, optimizer.state))
    return net


def _work(rank: int, job: Job, team: parallel.Team, state: State) -> None:
    """One process, with its own batches and shared weights. The first one keeps the time, the log and checkpoints."""
    if team.size > 1:
        torch.set_flush_denormal(True)
        torch.set_num_threads(1)
    plan = job.plan
    torch.manual_seed(plan.seed * 1000 + rank + job.shard * 10)
    net = Capuchin(job.shape, compiled=job.compiled).bfloat16()
    team.adopt(net)
    optimizer = Optimizer(net, job.rates, state)
    batches = Shards(job.shards, plan.seed, job.shard, rank, team.size)
    log = Log(job, optimizer, batches, float(team.clock[0])) if rank == 0 else None
    for ids, classes in batches:
        minutes = float(team.clock[0])
        progress = optimizer.steps / plan.steps if plan.steps else minutes / plan.minutes
        if progress >= 1:
            break
        loss, reply = net.loss(ids, weigh(classes, plan, progress))
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = team.share(rank, net)
        optimizer.step(factor(plan, optimizer.steps, progress), gradients)
        if log is not None:
            log.note(float(loss.detach()), float(reply), ids.numel() * team.size, progress)
            team.clock[0] = log.minutes
        team.release()
        if log is not None:
            log.keep()  # the others compute meanwhile, and wait before their next update
    if log is not None:
        log.keep(now=True)


class Log:
    """Keeps the time, logs a line every 50 steps, and writes a checkpoint every few minutes."""

    def __init__(self, job: Job, optimizer: Optimizer, batches: Shards, minutes: float) -> None:
        self.job, self.optimizer, self.batches = job, optimizer, batches
        self.tokens, self.start = job.tokens, minutes
        self.began = self.mark = self.saved = time.monotonic()
        self.since = 0
        self.recent: deque[float] = deque(maxlen=100)

    @property
    def minutes(self) -> float:
        """Of training so far, including those before a resume."""
        return self.start + (time.monotonic() - self.began) / 60

    def note(self, loss: float, reply: float, tokens: int, progress: float) -> None:
        """Record one step. The losses are this process's."""
        self.tokens += tokens
        self.since += tokens
        self.recent.append(reply)
        step = self.optimizer.steps
        if step % 50 != 1:
            return
        now = time.monotonic()
        speed, self.since = self.since / max(now - self.mark, 1e-9), 0
        self.mark = now
        mean = sum(self.recent) / len(self.recent)
        left = (1 - progress) * self.minutes / max(progress, 1e-9)
        row = {"step": step, "tokens": self.tokens, "loss": round(loss, 4), "reply": round(mean, 4)}
        row |= {"speed": round(speed), "minutes": round(self.minutes, 2)}
        shown = f"step {step:5}  {self.tokens / 1e6:6.2f} M tokens  loss {loss:.3f}  reply {mean:.3f}"
        print(f"{shown}  {speed:6.0f} tok/s  {left:5.1f} min left", flush=True)
        with (self.job.folder / "training.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def keep(self, now: bool = False) -> None:
        """Write a checkpoint if one is due, or `now`."""
        if not now and time.monotonic() - self.saved < self.job.plan.checkpoint_minutes * 60:
            return
        self.saved = time.monotonic()
        state = {"optimizer": self.optimizer.state, "minutes": self.minutes, "tokens": self.tokens}
        with atomic_write(self.job.folder / "state.pt", SHARED) as file:
            torch.save({**state, "shard": self.batches.number}, file)
