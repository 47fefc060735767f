"""HumanEval by a published model, greedy, over HTTP: the whole engine against what the model's authors publish.

    python -m tests.bench.bench_humaneval [--quick] [--model FILE] [--json FILE] [-- ENGINE OPTIONS]

`python -m engine` serves the GGUF file to the openai client, 48 requests at once; each reply is judged by the problem's
own check in the process sandbox. Exit status 1 below the floor: run it after every change of the engine's numerics.
`make models` fetches the model and the problems. All replies are kept in `var/bench/`, for a look at what failed.
"""

import argparse
import asyncio
import hashlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from bot.contracts import Sandbox
from bot.errors import ModelMissing, TroopError
from bot.evaluation.functions import code_of, job, question, solves
from bot.evaluation.tasks import FunctionTask, read_tasks, spread
from bot.llm.bundled_engine import LOADING, engine_process
from bot.llm.published_models import HUMANEVAL, QWEN, locate
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings
from tests.bench.bench_engine import machine

ROOT = Path(__file__).parent.parent.parent
MODELS, KEPT = ROOT / "var" / "models", ROOT / "var" / "bench"
FLOOR = 69.0  # percent of all problems; the authors of Qwen2.5-Coder-1.5B-Instruct publish 70.7
QUICK = 12  # problems


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_humaneval", description=__doc__)
    parser.add_argument("--model", default=QWEN.name, help="a published one's name, a GGUF file or a folder")
    parser.add_argument("--problems", type=Path, default=HUMANEVAL.path(MODELS), help="the JSONL file, gzipped")
    parser.add_argument("--dtype", default="auto", help="of the engine")
    parser.add_argument("--threads", type=int, default=2, help="of the engine")
    parser.add_argument("--at-once", type=int, default=48, help="requests")
    parser.add_argument("--max-tokens", type=int, default=768, help="of one reply")
    parser.add_argument("--limit", type=int, help="only so many problems; there is no floor then")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} problems, no floor")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("options", nargs="*", help="more of the engine's, after --")
    args = parser.parse_args(argv)
    args.limit = args.limit or (QUICK if args.quick else None)
    return args


def read_problems(path: Path, limit: int | None) -> tuple[FunctionTask, ...]:
    """All of them, or `limit` spread evenly. Raises `ModelMissing` where the file is not there."""
    if not path.is_file():
        raise ModelMissing(f"{HUMANEVAL.title}: no {path.name} in {path.parent}; `make models` fetches it")
    found = read_tasks(str(path), path.parent)
    return tuple(task for task in spread(found, limit) if isinstance(task, FunctionTask))


async def ask(client: AsyncOpenAI, problems: Sequence[FunctionTask], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A greedy reply to each: `text`, `tokens` and `finish`."""
    model = (await client.models.list()).data[0].id
    gate, done, started = asyncio.Semaphore(args.at_once), 0, time.monotonic()

    async def one(problem: FunctionTask) -> dict[str, Any]:
        nonlocal done
        async with gate:
            answer = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question(problem)}],
                temperature=0.0,
                max_tokens=args.max_tokens,
            )
        done += 1
        print(f"  {done}/{len(problems)} replies, {time.monotonic() - started:.0f} s", flush=True)
        tokens = answer.usage.completion_tokens if answer.usage else 0
        choice = answer.choices[0]
        return {"text": choice.message.content or "", "tokens": tokens, "finish": choice.finish_reason}

    return list(await asyncio.gather(*map(one, problems)))


async def judge(problems: Sequence[FunctionTask], replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether each reply's code passes: `passed`, `status` and the end of the `output`."""
    with tempfile.TemporaryDirectory() as empty:
        settings = SandboxSettings(kind="process", concurrency=2)
        sandbox: Sandbox = await open_sandbox(settings, Path(empty), venv_of=ROOT, notice=lambda _: None)

    async def one(problem: FunctionTask, reply: dict[str, Any]) -> dict[str, Any]:
        found = await sandbox.run(job(problem, code_of(reply["text"])))
        return {"passed": solves(found), "status": found.status, "output": found.tail(8, 2000)}

    try:
        return list(await asyncio.gather(*(one(p, r) for p, r in zip(problems, replies, strict=True))))
    finally:
        await sandbox.close()


async def measure(model: Path, problems: Sequence[FunctionTask], args: argparse.Namespace) -> dict[str, Any]:
    """The run's figures; every reply is kept. Raises `EndpointError` where the engine does not come up."""
    KEPT.mkdir(parents=True, exist_ok=True)
    name = f"humaneval-{model.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    options = ["--dtype", args.dtype, *args.options]
    engine = engine_process(
        KEPT / f"{name}.log",
        model=str(model),
        threads=args.threads,
        arguments=options,
        start_timeout=LOADING,
        say=lambda words: print(f"  {words}", flush=True),
    )
    async with engine as url:
        client = AsyncOpenAI(base_url=url, api_key="none", timeout=3600, max_retries=0)
        began = time.monotonic()
        replies = await ask(client, problems, args)
        seconds = time.monotonic() - began
        await client.close()
    verdicts = await judge(problems, replies)
    records = [
        {"task_id": problem.id, **verdict, **reply}
        for problem, verdict, reply in zip(problems, verdicts, replies, strict=True)
    ]
    kept = KEPT / f"{name}.jsonl"
    kept.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(f"replies   {kept.relative_to(ROOT)}")
    return figures_of(records, seconds)


def figures_of(records: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The run in numbers; `pass_at_1` in percent, `seconds` those of the replies alone."""
    tokens = sum(record["tokens"] for record in records)
    passed = sum(record["passed"] for record in records)
    return {
        "problems": len(records),
        "passed": passed,
        "pass_at_1": round(100 * passed / len(records), 1),
        "cut_short": sum(record["finish"] == "length" for record in records),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "failed": [record["task_id"] for record in records if not record["passed"]],
    }


def summary(figures: dict[str, Any], floor: float | None) -> list[dict[str, Any]]:
    """The row of `make bench`'s table; none where not all problems were asked."""
    if floor is None:
        return []
    figure = f"{figures['pass_at_1']} % of {figures['problems']}"
    ratio = figures["pass_at_1"] / floor
    return [{"name": "HumanEval", "figure": figure, "baseline": f"floor: {floor} %", "ratio": ratio, "goal": ">= 1"}]


def sha256_of(path: Path) -> str:
    """Of a file; "" for a folder."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: list[str] | None = None) -> int:
    """Run, print, and return 0; 1 below the floor or where the engine does not come up."""
    args = parse(argv)
    command = shlex.join(["python", "-m", "tests.bench.bench_humaneval", *(argv if argv is not None else sys.argv[1:])])
    try:
        model = locate(args.model, MODELS)
        problems = read_problems(args.problems, args.limit)
    except ModelMissing as missing:
        print(f"HumanEval is left out: {missing}")
        return 0
    device = machine()
    versions = {name: version(name) for name in ("torch", "transformers")}
    floor = FLOOR if args.limit is None and model.name == QWEN.file else None  # the figure of that model alone
    print(f"command   {command}\nmachine   {device}; {args.threads} threads, {versions}", flush=True)
    print(f"workload  {len(problems)} problems, {args.at_once} requests at once, greedy: {model.name}", flush=True)
    try:
        figures = asyncio.run(measure(model, problems, args))
    except TroopError as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    print(
        f"pass@1    {figures['pass_at_1']} % ({figures['passed']} of {figures['problems']}), {figures['cut_short']} "
        f"replies cut short; {figures['tokens_per_second']} tokens/s, {figures['seconds']} s"
    )
    if args.json:
        how = {"model": model.name, "sha256": sha256_of(model), "dtype": args.dtype, "options": args.options}
        setting = {"threads": args.threads, "at_once": args.at_once, "max_tokens": args.max_tokens, **versions}
        about = {"command": command, "machine": device, **how, **setting, "floor": floor}
        args.json.write_text(json.dumps(about | figures | {"summary": summary(figures, floor)}, indent=2) + "\n")
    if floor is not None and figures["pass_at_1"] < floor:
        print(f"below the floor of {floor} %: the engine computes something else than the model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
