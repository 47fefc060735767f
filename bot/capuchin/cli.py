"""The command line: trains the bundled model from scratch, or resumes its training."""

import asyncio
import dataclasses
import json
import multiprocessing
import os
import random
from pathlib import Path
from typing import Any

import click

from bot.capuchin.exercises import corpus, executed
from bot.capuchin.exercises.scenes import Scenes
from bot.capuchin.exercises.tasks import exercise
from bot.capuchin.training import data
from bot.capuchin.training import tokenizer as tok

WORK = Path("var/capuchin")
SIZES = ("tiny", "small", "earnest", "excerpt")  # by `Scenes.size`


@dataclasses.dataclass(frozen=True)
class Options:
    """The command's options; each is described where it is declared."""

    out: Path
    work: Path
    seed: int
    minutes: float
    rate: float
    flat: float
    start: Path | None
    steps: int
    workers: int
    compiled: bool
    scenes: int
    size: str

    @property
    def facts(self) -> dict[str, object]:
        """What the checkpoint's record says of the training."""
        names = ("seed", "minutes", "rate", "flat", "steps", "workers")
        return {name: getattr(self, name) for name in names}

    @property
    def command(self) -> str:
        start = f"--start {self.start} " if self.start else ""
        numbers = f"--seed {self.seed} --minutes {self.minutes:g} --rate {self.rate:g} --flat {self.flat:g}"
        return f"python -m bot.capuchin {start}{numbers}"


def _prepare(work: Path, seed: int) -> tuple[Scenes, Scenes]:
    """Scenes for training and for evaluation. Corpus and executed examples are made once and kept on disk."""
    if not (work / "corpus.jsonl").exists():
        click.echo("corpus: fetching the pinned packages and collecting functions")
        corpus.download(work / "wheels")
        corpus.save(corpus.harvest(work / "wheels"), work / "corpus.jsonl")
    functions = corpus.load(work / "corpus.jsonl")
    if not (work / "executed.jsonl").exists():
        click.echo("executed examples: running pure functions with and without a mutation")
        corpus.save(executed.study(functions, seed), work / "executed.jsonl")
    ran = executed.load(work / "executed.jsonl")
    click.echo(f"corpus: {len(functions)} functions, {len(ran)} executed mutations")
    return Scenes(functions, ran, held_out=False), Scenes(functions, ran, held_out=True)


def _tokenizer(work: Path, scenes: Scenes, seed: int) -> None:
    if not (work / "tokenizer" / "tokenizer.json").exists():
        click.echo("tokenizer: learning it from 6,000 exercises")
        rng = random.Random(f"tokenizer {seed}")
        tok.save(tok.learn(turn.content for _ in range(6000) for turn in exercise(scenes, rng)[1]), work / "tokenizer")


def _produce(work: Path, seed: int) -> None:
    os.nice(5)
    training, _ = _prepare(work, seed)
    data.produce(training, tok.load(work / "tokenizer"), work / "shards", seed)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("engine/checkpoints/capuchin"),
    show_default=True,
    help="Folder of the checkpoint.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=WORK,
    show_default=True,
    help="Corpus, shards and the state to resume from; delete it to start over.",
)
@click.option("--seed", default=1, show_default=True, help="Of weights, data and sampling.")
@click.option(
    "--minutes", default=80.0, show_default=True, help="Training time. The learning rate falls to zero at its end."
)
@click.option(
    "--rate", default=1.0, show_default=True, help="Learning rates, times this; lower to continue past the end."
)
@click.option(
    "--flat", default=0.4, show_default=True, help="Share of the budget before the learning rate begins to fall."
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A checkpoint to continue from, with a new warm-up; default: random weights.",
)
@click.option("--steps", default=0, show_default=True, help="Budget in steps instead of minutes; 0: minutes.")
@click.option(
    "--workers", default=3, show_default=True, help="Training processes of one thread each; one more makes the data."
)
@click.option(
    "--compiled/--eager",
    default=True,
    show_default=True,
    help="Fuse with torch.compile (needs a C++ compiler); 1.8 times as fast.",
)
@click.option("--scenes", default=40, show_default=True, help="Held-out scenes to evaluate on; 0: no evaluation.")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="excerpt",
    show_default=True,
    help="Of the files to evaluate on; earnest: real sizes, excerpt: as shown of a library.",
)
@click.option(
    "--evaluate",
    "judged",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Evaluate this checkpoint instead of training. Repeatable; all get the same scenes.",
)
def main(judged: tuple[Path, ...], **options: Any) -> None:
    """Train Capuchin from scratch on a CPU: corpus, tokenizer, training, export, evaluation.

    Every step keeps its results in the work folder, and training saves a checkpoint every few minutes: run the same
    command again to resume. The default budget takes about an hour and a half on 4 cores.
    """
    given = Options(**options)
    given.work.mkdir(parents=True, exist_ok=True)
    training, held_out = _prepare(given.work, given.seed)
    held_out.size = SIZES.index(given.size)
    if judged:
        _evaluate(judged, held_out, given.seed, given.scenes)
        return
    if given.start is not None and not (given.work / "tokenizer").exists():
        tok.copy(given.start, given.work / "tokenizer")
        (given.work / "shards").mkdir(exist_ok=True)
        (given.work / "shards" / "taken").write_text(str(data.SETTLED))
    _tokenizer(given.work, training, given.seed)
    producer = multiprocessing.get_context("spawn").Process(target=_produce, args=(given.work, given.seed), daemon=True)
    producer.start()
    try:
        network = _train(given)
    finally:
        producer.terminate()
    record = {"command": given.command, **given.facts, **network}
    if given.scenes:
        from bot.capuchin.training.evaluate import evaluate

        click.echo(f"evaluation on {given.scenes} held-out scenes, {given.size}")
        record["evaluation"] = asyncio.run(evaluate(given.out, held_out, given.seed, given.scenes))
    click.echo(json.dumps(record, indent=1))
    lines = (given.work / "run" / "training.jsonl").read_text().splitlines()
    record["log"] = [json.loads(line) for line in lines]
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _evaluate(folders: tuple[Path, ...], scenes: Scenes, seed: int, count: int) -> None:
    """Print what each checkpoint gets right, as JSON."""
    from bot.capuchin.training.evaluate import evaluate

    for folder in folders:
        found = asyncio.run(evaluate(folder, scenes, seed, count))
        click.echo(json.dumps({"checkpoint": str(folder), **found}, indent=1))


def _train(given: Options) -> dict[str, object]:
    """Train and export; returns the network's sizes for the record."""
    import torch

    torch.set_flush_denormal(True)  # before the first thread; without it, training is very slow at times
    torch.set_num_threads(1)
    from bot.capuchin.training.export import export
    from bot.capuchin.training.model import Shape
    from bot.capuchin.training.optimizer import Rates
    from bot.capuchin.training.train import Job, Plan, train

    plan = Plan(minutes=given.minutes, flat=given.flat, steps=given.steps, seed=given.seed)
    rates = Rates(muon=Rates.muon * given.rate, adam=Rates.adam * given.rate)
    shape = Shape()
    job = Job(given.work / "run", given.work / "shards", plan, shape, rates, given.compiled)
    net = train(job, given.workers, given.start)
    export(net.to_transformers(), shape, given.work / "tokenizer", given.out)
    parameters = sum(p.numel() for p in net.parameters())
    return {"parameters": parameters, "torch": torch.__version__}
