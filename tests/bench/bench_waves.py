"""Second wave, particles and cascade, each against independent samples at equal tokens, on real models.

    python -m tests.bench.bench_waves [--quick] [--minutes M] [--record FILE] [--json FILE] [-- ENGINE OPTIONS]

Functions of HumanEval whose docstring has examples: those are run on each reply, and shown to the model where they
fail; the hidden check counts. Qwen2.5-Coder-1.5B-Instruct works on the tasks that its greedy reply fails
(`results/humaneval.json`), SmolLM2-135M-Instruct before it on tasks spread over all.

Each task has one first wave. Then, for every attempt that failed, there is an independent reply, a correction of it, a
reply that is told what the wave failed, or a correction of an attempt that was drawn again by its share of passed
examples. Pairs of policies are cut to the tokens of the cheaper one, task by task; intervals are over the tasks. Every
reply is kept in the record, so that an interrupted run goes on; after `--minutes` no new task begins. `make models`
fetches what it needs.
"""

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI

from bot.errors import ModelMissing, TroopError
from bot.evaluation.tasks import FunctionTask
from bot.llm.bundled_engine import LOADING, engine_process
from bot.llm.published_models import HUMANEVAL, QWEN, SMOLLM2, locate
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings
from tests.bench.bench_engine import machine
from tests.bench.bench_humaneval import KEPT, MODELS, ROOT, read_problems
from tests.bench.visible_examples import ILL_POSED, examples_of
from tests.bench.wave_figures import Later, cascade_figures, show, summary, wave_figures
from tests.bench.wave_policies import POLICIES, Draws, cascade_draws, first_wave, go_on
from tests.bench.wave_record import Missing, Record, Sampler, Sampling, Visible

GREEDY = ROOT / "tests" / "bench" / "results" / "humaneval.json"
SMALL_WAVE, STRONG_MOST = 4, 4  # replies of the cascade's models


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_waves", description=__doc__)
    parser.add_argument("--record", type=Path, default=KEPT / "waves.jsonl", help="where replies are kept")
    parser.add_argument("--wave", type=int, default=6, help="replies of the first wave")
    parser.add_argument("--rounds", type=int, default=1, help="after it")
    parser.add_argument("--tasks", type=int, default=33, help="of the waves: the hard ones")
    parser.add_argument("--cascade", type=int, default=40, help="tasks of the cascade, spread over all")
    parser.add_argument(
        "--minutes", type=float, default=45.0, help="after which no new task begins; 0: only what is recorded"
    )
    parser.add_argument("--at-once", type=int, default=6, help="tasks")
    parser.add_argument("--threads", type=int, default=2, help="of the engine")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-tokens", type=int, default=320, help="of one reply")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="4 tasks of each kind, waves of 4, one round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("options", nargs="*", help="more of the engine's, after --")
    args = parser.parse_args(argv)
    if args.quick:
        args.tasks, args.cascade, args.wave, args.rounds = 4, 4, 4, 1
    return args


def chosen(problems: Sequence[FunctionTask], args: argparse.Namespace) -> tuple[list[Visible], list[Visible]]:
    """The hard tasks and those of the cascade, in an order of their own, so that a part of them is a fair one."""
    known = [Visible(task, examples_of(task)) for task in problems if task.id not in ILL_POSED]
    known = [visible for visible in known if visible.examples]
    failed = set(json.loads(GREEDY.read_text())["figures"]["failed"])
    order = np.random.default_rng(0).permutation(len(known))
    shuffled = [known[i] for i in order]
    return [one for one in shuffled if one.task.id in failed][: args.tasks], shuffled[: args.cascade]


class Bench:
    """Everything that is drawn, from the record or anew."""

    def __init__(self, args: argparse.Namespace, hard: Sequence[Visible], spread: Sequence[Visible]) -> None:
        self._args = args
        self._hard, self._spread = hard, spread
        self._record = Record(args.record)
        self._sampling = Sampling(args.temperature, args.max_tokens, args.seed)
        self._began = time.monotonic()

    def _sampler(self, name: str, client: AsyncOpenAI | None, sandbox: Any) -> Sampler:
        return Sampler(name, self._record, self._sampling, (client, sandbox) if client else None)

    async def waves(self, strong: Sampler, visible: Visible) -> Later:
        """One hard task: its first wave, and what each policy makes of it."""
        wave = await first_wave(strong, visible, self._args.wave)
        tried = await asyncio.gather(*(go_on(policy, strong, visible, wave, self._args.rounds) for policy in POLICIES))
        first = tuple(particle.attempt for particle in wave)
        return Later(visible.task.id, first, dict(zip(POLICIES, tried, strict=True)))

    async def cascade(self, small: Sampler, strong: Sampler, visible: Visible) -> Draws:
        wave = await first_wave(small, visible, SMALL_WAVE)
        return await cascade_draws(wave, strong, visible, STRONG_MOST)

    async def draw(self) -> None:
        """Draw what is not recorded. Raises `EndpointError` where an engine does not come up."""
        waves, draws = await self.recorded()
        whole = len(waves) == len(self._hard) and len(draws) == len(self._spread)
        if whole or self._args.minutes <= 0:
            return
        async with AsyncExitStack() as stack:
            empty = stack.enter_context(tempfile.TemporaryDirectory())
            settings = SandboxSettings(kind="process", concurrency=2)
            sandbox = await open_sandbox(settings, Path(empty), venv_of=ROOT, notice=lambda _: None)
            stack.push_async_callback(sandbox.close)
            async with self._engine(SMOLLM2.name) as client:
                small = self._sampler(SMOLLM2.name, client, sandbox)
                await self._each(
                    "the small model's first waves",
                    [lambda v=v: first_wave(small, v, SMALL_WAVE) for v in self._spread],  # type: ignore[misc]
                )
            small = self._sampler(SMOLLM2.name, None, None)
            async with self._engine(QWEN.name) as client:
                strong = self._sampler(QWEN.name, client, sandbox)
                work: list[Callable[[], Awaitable[object]]] = []
                work += [lambda v=v: self.waves(strong, v) for v in self._hard]  # type: ignore[misc]
                work += [lambda v=v: self.cascade(small, strong, v) for v in self._spread]  # type: ignore[misc]
                order = np.random.default_rng(1).permutation(len(work))
                await self._each("the strong model's tasks", [work[i] for i in order])

    def _engine(self, name: str) -> Any:
        """A client of an engine with the model, as a context."""
        return _Engine(str(locate(name, MODELS)), name, self._args)

    async def _each(self, title: str, work: Sequence[Callable[[], Awaitable[object]]]) -> None:
        """All of it, a few at once; says what share is done and how long the rest takes at this pace."""
        gate, done, began = asyncio.Semaphore(self._args.at_once), 0, time.monotonic()

        async def one(todo: Callable[[], Awaitable[object]]) -> None:
            nonlocal done
            async with gate:
                if time.monotonic() - self._began > 60 * self._args.minutes:
                    return
                try:
                    await todo()
                except Missing:  # the small model's part was cut off before this task
                    return
            done += 1
            spent = time.monotonic() - began
            left = spent / done * (len(work) - done) / 60
            print(f"  {title}: {done}/{len(work)} ({done / len(work):.0%}), {left:.0f} minutes left", flush=True)

        await asyncio.gather(*map(one, work))

    async def recorded(self) -> tuple[list[Later], list[Draws]]:
        """The tasks that are whole in the record."""
        small, strong = self._sampler(SMOLLM2.name, None, None), self._sampler(QWEN.name, None, None)
        waves, draws = [], []
        for visible in self._hard:
            try:
                waves.append(await self.waves(strong, visible))
            except Missing:
                continue
        for visible in self._spread:
            try:
                draws.append(await self.cascade(small, strong, visible))
            except Missing:
                continue
        return waves, draws


class _Engine:
    """An engine's process and its client."""

    def __init__(self, model: str, name: str, args: argparse.Namespace) -> None:
        options = ["--served-model-name", name, "--cache-memory", "1GiB", *args.options]
        log = args.record.with_suffix(f".{name}.log")
        self._process = engine_process(
            log,
            model=model,
            threads=args.threads,
            arguments=options,
            start_timeout=LOADING,
            say=lambda words: print(f"  {words}", flush=True),
        )

    async def __aenter__(self) -> AsyncOpenAI:
        url = await self._process.__aenter__()
        self._client = AsyncOpenAI(base_url=url, api_key="none", timeout=3600, max_retries=0)
        return self._client

    async def __aexit__(self, *error: Any) -> None:
        await self._client.close()
        await self._process.__aexit__(*error)


async def measure(args: argparse.Namespace, hard: Sequence[Visible], spread: Sequence[Visible]) -> dict[str, Any]:
    """The run's figures."""
    bench = Bench(args, hard, spread)
    await bench.draw()
    waves, draws = await bench.recorded()
    size = SMOLLM2.size / QWEN.size  # a token costs what is read for it: the weights
    found: dict[str, Any] = {"asked": {"hard": len(hard), "cascade": len(spread)}}
    found |= {"waves": wave_figures(waves)} if waves else {}
    found |= {"cascade": cascade_figures(draws, size)} if draws else {}
    return found | {"summary": summary(found)}


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 where an engine does not come up."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_waves", *(argv if argv is not None else sys.argv[1:])])
    try:
        problems = read_problems(HUMANEVAL.path(MODELS), None)
        for name in (QWEN.name, SMOLLM2.name):
            locate(name, MODELS)
    except ModelMissing as missing:
        print(f"waves are left out: {missing}")
        return 0
    hard, spread = chosen(problems, args)
    device = machine()
    print(f"command   {command}\nmachine   {device}; {args.threads} threads", flush=True)
    print(f"workload  {len(hard)} hard tasks, waves of {args.wave}, {args.rounds} rounds; cascade: {len(spread)} tasks")
    try:
        figures = asyncio.run(measure(args, hard, spread))
    except TroopError as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    show(figures)
    if args.json:
        names = ("wave", "rounds", "temperature", "max_tokens", "seed")
        about = {"command": command, "machine": device, **{name: getattr(args, name) for name in names}}
        args.json.write_text(json.dumps(about | figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
