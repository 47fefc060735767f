"""Acknowledgements of webhook deliveries over real HTTP on loopback, each stored in a real SQLite file before its 202.

Baseline, in the same run and the same server: an endpoint that only reads the body and answers 202.

    python -m tests.bench.bench_webhook [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastapi import FastAPI, Request, Response

from bot.settings import Settings
from bot.store import Store
from bot.web.connections import BoundedServer
from bot.web.serve import build_app
from tests.bot.webhook.deliveries import SECRET, payload, request

REPOSITORIES = 500  # deliveries are spread over them, as over the installations of an App
CONNECTIONS = (1, 16)  # kept alive, one delivery at a time on each


def build(database: str) -> FastAPI:
    """The service as `troop serve` builds it, without a worker, and the baseline beside it."""
    settings = Settings(
        _env_file=None, webhook_secret=SECRET, app_id=12345, database_url=database, quota_runs_per_hour=10**6
    )
    app = build_app(settings, Store.from_settings(settings))

    @app.post("/baseline")
    async def baseline(request: Request) -> Response:
        await request.body()
        return Response(b"{}", 202, media_type="application/json")

    return app


def serve(database: str, handle: int) -> None:
    """The server's process; `handle` is a listening socket that it inherits."""
    with socket.socket(fileno=handle) as listening:
        asyncio.run(BoundedServer(build(database)).serve([listening]))


# -- the load ----------------------------------------------------------------------------------------------------


def labels(count: int, start: int) -> Iterator[bytes]:
    """Deliveries that each start a run."""
    data = payload("issues.labeled")
    for n in range(start, start + count):
        data["issue"]["number"] = n + 1
        # With an id of its own each: another name under the same id is a repository that was renamed.
        data["repository"] |= {"id": 1000 + n % REPOSITORIES, "full_name": f"octo-org/repo-{n % REPOSITORIES}"}
        yield http("/webhook", *request("issues", data))


def ignored(count: int, start: int) -> Iterator[bytes]:
    """Deliveries that come to nothing: comments without a command."""
    data = payload("issue_comment.created", comment__body="Thank you, this helps.")
    for n in range(start, start + count):
        data["comment"]["id"] = n + 1
        yield http("/webhook", *request("issue_comment", data))


def baseline(count: int, start: int) -> Iterator[bytes]:
    """The same bodies as `labels`, only read."""
    for whole in labels(count, start):
        yield whole.replace(b"POST /webhook ", b"POST /baseline ", 1)


def http(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, requests: Iterator[bytes], connections: int) -> tuple[float, list[float]]:
    """Send all; the seconds in all, and of each from its first byte out to its answer's last byte in."""
    ready = list(requests)  # signed beforehand, so that only the server is measured
    ready.reverse()
    seconds: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while ready:
            whole = ready.pop()
            started = time.perf_counter()
            writer.write(whole)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            seconds.append(time.perf_counter() - started)
            if not head.startswith(b"HTTP/1.1 202 "):
                raise RuntimeError(f"not acknowledged: {head[:40]!r} {answer[:200]!r}")
        writer.close()
        await writer.wait_closed()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return time.perf_counter() - started, seconds


async def measure(port: int, count: int, rounds: int) -> list[dict[str, float | int | str]]:
    kinds: dict[str, Callable[[int, int], Iterator[bytes]]] = {
        "baseline": baseline,
        "ignored": ignored,
        "labelled": labels,
    }
    rows: list[dict[str, float | int | str]] = []
    sent = 0
    for connections in CONNECTIONS:
        for make in kinds.values():  # imports, caches, threads
            await load(port, make(50, sent), connections)
            sent += 50
        found: dict[str, list[tuple[float, list[float]]]] = {kind: [] for kind in kinds}
        for _ in range(rounds):  # in turns, so that what else the machine does meets all alike
            for kind, make in kinds.items():
                found[kind].append(await load(port, make(count, sent), connections))
                sent += count
        base = 0.0
        for kind, measured in found.items():
            rate = statistics.median(count / seconds for seconds, _ in measured)
            all_seconds = sorted(one for _, each in measured for one in each)
            base = base or rate
            rows.append(
                {
                    "kind": kind,
                    "connections": connections,
                    "deliveries": count * rounds,
                    "per_second": round(rate, 1),
                    "p50_ms": round(1000 * all_seconds[len(all_seconds) // 2], 3),
                    "p99_ms": round(1000 * all_seconds[int(len(all_seconds) * 0.99)], 3),
                    "ratio_to_baseline": round(rate / base, 3),
                }
            )
    return rows


async def bench(quick: bool) -> list[dict[str, float | int | str]]:
    count, rounds = (200, 3) if quick else (400, 5)  # with the warm-up fewer runs than the in-process queue holds
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        database = f"sqlite:///{Path(folder) / 'troop.sqlite3'}"
        listening.set_inheritable(True)
        argv = ["-m", "tests.bench.bench_webhook", "--serve", database, str(listening.fileno())]
        server = await asyncio.create_subprocess_exec(sys.executable, *argv, pass_fds=[listening.fileno()])
        try:
            rows = await measure(listening.getsockname()[1], count, rounds)
        finally:
            server.terminate()
            await server.wait()
        store = Store.open(database)
        runs = sum(store.counts().values())
        store.close()
    expected = len(CONNECTIONS) * (50 + count * rounds)
    if runs != expected:
        raise RuntimeError(f"{expected} labelled deliveries were acknowledged but {runs} runs are stored")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_webhook", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer deliveries")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--serve", nargs=2, metavar=("DATABASE", "HANDLE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], int(arguments.serve[1]))
        return 0
    rows = asyncio.run(bench(arguments.quick))
    print(f"{'':10} {'connections':>11} {'per second':>11} {'p50 ms':>8} {'p99 ms':>8} {'to baseline':>12}")
    for row in rows:
        print(
            f"{row['kind']:10} {row['connections']:>11} {row['per_second']:>11} {row['p50_ms']:>8} {row['p99_ms']:>8} "
            f"{row['ratio_to_baseline']:>12}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
