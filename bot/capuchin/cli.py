"""The command line: make the bundled model from nothing, or go on where it stopped."""

import json
import multiprocessing
import os
import random
from pathlib import Path

import click

from bot.capuchin import corpus, data, executed
from bot.capuchin import tokenizer as tok
from bot.capuchin.scenes import Scenes
from bot.capuchin.tasks import exercise

WORK = Path("var/capuchin")


def _prepare(work: Path, seed: int) -> tuple[Scenes, Scenes]:
    """Scenes to train on and to evaluate on; corpus and executed examples are made once and kept."""
    if not (work / "corpus.jsonl").exists():
        click.echo("corpus: fetching the pinned packages and harvesting functions")
        corpus.download(work / "wheels")
        corpus.save(corpus.harvest(work / "wheels"), work / "corpus.jsonl")
    functions = corpus.load(work / "corpus.jsonl")
    if not (work / "executed.jsonl").exists():
        click.echo("executed examples: running pure functions before and after a mutation")
        executed.save(executed.study(functions, seed), work / "executed.jsonl")
    ran = executed.load(work / "executed.jsonl")
    click.echo(f"corpus: {len(functions)} functions, {len(ran)} executed mutations")
    return Scenes(functions, ran, kept_back=False), Scenes(functions, ran, kept_back=True)


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
    help="Corpus, shards and the state to resume from; delete it to start anew.",
)
@click.option("--seed", default=1, show_default=True, help="Of weights, data and sampling.")
@click.option(
    "--minutes", default=80.0, show_default=True, help="Training time. The learning rate falls to zero at its end."
)
@click.option("--rate", default=1.0, show_default=True, help="Learning rates, times this; lower to go on past the end.")
@click.option("--steps", default=0, show_default=True, help="A budget in steps instead; 0: by time.")
@click.option(
    "--workers", default=3, show_default=True, help="Processes that train, a thread each; one more makes data."
)
@click.option(
    "--compiled/--eager",
    default=True,
    show_default=True,
    help="Fuse with torch.compile (needs a C++ compiler); 1.8 times as fast.",
)
@click.option("--scenes", default=40, show_default=True, help="Kept-back scenes to evaluate on; 0: no evaluation.")
def main(
    out: Path, work: Path, seed: int, minutes: float, rate: float, steps: int, workers: int, compiled: bool, scenes: int
) -> None:
    """Train Capuchin from nothing on a CPU: corpus, tokenizer, training, export, evaluation.

    Every step keeps what it made in the work folder, and the training saves itself every few minutes: run the same
    command again to go on. The default budget takes about an hour and a half on 4 cores.
    """
    work.mkdir(parents=True, exist_ok=True)
    training, kept_back = _prepare(work, seed)
    _tokenizer(work, training, seed)
    producer = multiprocessing.get_context("spawn").Process(target=_produce, args=(work, seed), daemon=True)
    producer.start()
    try:
        net_shape = _train(work, out, seed, minutes, rate, steps, workers, compiled)
    finally:
        producer.terminate()
    facts = {
        "seed": seed,
        "minutes": minutes,
        "rate": rate,
        "steps": steps,
        "workers": workers,
    }
    record: dict[str, object] = {
        "command": f"python -m bot.capuchin --seed {seed} --minutes {minutes:g}",
        **facts,
        **net_shape,
    }
    if scenes:
        from bot.capuchin.evaluate import evaluate

        click.echo(f"evaluation on {scenes} kept-back scenes")
        record["evaluation"] = evaluate(out, kept_back, seed, scenes)
    log = [json.loads(line) for line in (work / "run" / "training.jsonl").read_text().splitlines()]
    record["log"] = log
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    click.echo(json.dumps({key: value for key, value in record.items() if key != "log"}, indent=1))


def _train(
    work: Path, out: Path, seed: int, minutes: float, rate: float, steps: int, workers: int, compiled: bool
) -> dict[str, object]:
    """Train and export; returns the network's sizes for the record."""
    import torch

    torch.set_flush_denormal(True)  # before the first thread; without it the training all but stalls now and then
    torch.set_num_threads(1)
    from bot.capuchin.export import export
    from bot.capuchin.model import Shape
    from bot.capuchin.optimizer import Rates
    from bot.capuchin.train import Plan, train

    rates = Rates(muon=Rates.muon * rate, adam=Rates.adam * rate)
    shape, plan = Shape(), Plan(minutes=minutes, steps=steps, seed=seed)
    net = train(work / "run", work / "shards", plan, shape, rates, compiled, workers)
    export(net.to_transformers(), shape, work / "tokenizer", out)
    parameters = sum(p.numel() for p in net.parameters())
    return {"parameters": parameters, "torch": torch.__version__}
