"""Prompt tokens that the engine computes for a whole Troop run, over those that are distinct: 1 is perfect sharing.

    python -m tests.bench.bench_tokens [--quick] [--json FILE]

`troop solve` on the first demo issue, with the bundled model, behind an engine that also writes down the tokens of
every prompt and every output. Distinct is exact: a trie of all of them in order of time, without blocks or eviction. A
prompt's token counts as distinct where no earlier prompt, and no output that had ended, had led to it; the engine may
compute each once. Without sharing, every token of every prompt would be computed.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx

from bot.cli.solve import SolveOptions, solve_locally
from bot.llm.bundled_engine import READY
from tests.demo import load

GOAL = 1.02


def serve(record: Path) -> int:
    """The engine as `python -m engine` runs it; what it is asked and what it answers goes to `record`, a line each."""
    from engine.cli import main as run
    from engine.core import Core
    from engine.schedule.scheduler import Scheduler
    from engine.schedule.sequence import FinishReason, Request, Sequence

    file = record.open("w")
    submit, finish = Core.submit, Scheduler.finish

    def note(kind: str, tokens: list[int]) -> None:
        file.write(json.dumps([kind, tokens]) + "\n")
        file.flush()

    def submitted(core: Core, request: Request) -> None:
        submit(core, request)
        note("prompt", request.prompt)

    def finished(scheduler: Scheduler, sequence: Sequence, reason: FinishReason) -> None:
        computed = sequence.computed
        finish(scheduler, sequence, reason)
        note("output", sequence.tokens[:computed])

    Core.submit, Scheduler.finish = submitted, finished  # type: ignore[method-assign]
    return run(["--host", "127.0.0.1", "--port", "0"])


def count(events: Iterable[tuple[str, list[int]]]) -> dict[str, int]:
    """Tokens of all prompts, and how many of them were distinct, by a trie in order of time. Pure."""
    children: dict[tuple[int, int], int] = {}
    prompts = total = distinct = 0
    for kind, tokens in events:
        node = 0
        for token in tokens:
            step = (node, token)
            if step not in children:
                children[step] = len(children) + 1
                distinct += kind == "prompt"
            node = children[step]
        if kind == "prompt":
            prompts += 1
            total += len(tokens)
    return {"prompts": prompts, "prompt_tokens": total, "distinct_prompt_tokens": distinct}


@contextlib.asynccontextmanager
async def recording_engine(record: Path, log: Path) -> AsyncIterator[str]:
    """Its address."""
    argv = [sys.executable, "-m", "tests.bench.bench_tokens", "--serve", str(record)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=output, env=environment
        )
        assert process.stdout is not None
        try:
            line = b""
            while not line.startswith(READY.encode()):
                line = await asyncio.wait_for(process.stdout.readline(), 120.0)
                if not line:
                    raise SystemExit(f"the engine did not start:\n{log.read_text()}")
            yield line.decode().strip().removeprefix(READY).rstrip("/")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def repository(case: Any, root: Path) -> None:
    """The demo's files as a git checkout."""
    for name, text in case.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    author = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for argv in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *argv], cwd=root, check=True)


async def measure(trajectories: int, issue: int) -> dict[str, Any]:
    """One run; its tokens by the engine's own counters and by the trie."""
    case = load(issue)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = folder / "repository"
        root.mkdir()
        repository(case, root)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        for name in [name for name in os.environ if name.startswith("TROOP_")]:
            del os.environ[name]
        record = folder / "tokens.jsonl"
        async with recording_engine(record, folder / "engine.log") as url:
            options = SolveOptions(
                path=root, issue_text=f"{case.issue.title}\n\n{case.issue.body}", base_url=f"{url}/v1", as_json=True,
                trajectories=trajectories, seed=0, sandbox="process", branch=False,
            )  # fmt: skip
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome = await solve_locally(options)
            async with httpx.AsyncClient() as client:
                metrics = (await client.get(f"{url}/metrics")).text
        events = [json.loads(line) for line in record.read_text().splitlines()]
    counters = {}
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if not line.startswith("#"):
            counters[name.removeprefix("troop_engine_").removesuffix("_total")] = value
    counted = count(events)
    computed = int(float(counters["tokens_computed"]))
    return {
        "issue": case.name,
        "trajectories": trajectories,
        "outcome": outcome,
        **counted,
        "computed_prompt_tokens": computed,
        "cached_prompt_tokens": int(float(counters["tokens_cached"])),
        "generated_tokens": int(float(counters["tokens_generated"])),
        "evicted_blocks": int(float(counters["evicted_blocks"])),
        "preemptions": int(float(counters["preemptions"])),
        "ratio": round(computed / counted["distinct_prompt_tokens"], 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_tokens", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--issue", type=int, default=1, help="of the demo, from 1")
    parser.add_argument("--quick", action="store_true", help="6 trajectories")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--serve", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    found = asyncio.run(measure(6 if arguments.quick else arguments.trajectories, arguments.issue))
    print(
        f"{found['trajectories']} trajectories, {found['prompts']:,} prompts of {found['prompt_tokens']:,} tokens, "
        f"{found['distinct_prompt_tokens']:,} of them distinct; {found['computed_prompt_tokens']:,} computed: ratio "
        f"{found['ratio']} (goal <= {GOAL}); {found['evicted_blocks']} blocks evicted"
    )
    if arguments.json:
        row = {
            "name": f"prompt tokens computed, {found['trajectories']} trajectories",
            "figure": f"{found['computed_prompt_tokens']:,}",
            "baseline": f"distinct: {found['distinct_prompt_tokens']:,}",
            "ratio": found["ratio"],
            "goal": f"<= {GOAL}",
        }
        arguments.json.write_text(json.dumps({"figures": found | {"summary": [row]}}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
