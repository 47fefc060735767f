"""Deliveries that arrive on a schedule, as GitHub's do, whether the server keeps up or not.

200 a second for 30 s, on SQLite and on PostgreSQL, each labels an issue and is stored before its 202, beside 1,000 idle
connections that open again when the server drops them. A delivery's time counts from the moment that the schedule has
for it, so that waiting behind slow ones counts, too. The client is this process; the server and the database are
others of the same machine. What was acknowledged is looked for in the database afterwards.

Baseline, in the same run, on the same schedule: an endpoint that only reads the body and answers 202.

    python -m tests.bench.bench_arrivals [--quick] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import gc
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bot.store import Store
from tests.bench.bench_webhook import baseline, labels
from tests.chaos.servers import Postgres

RATE = 200  # deliveries a second
IDLE = 1000  # connections
KEPT = 2.0  # seconds that a connection is used again; the server drops it after five


@dataclass
class Arrivals:
    """What became of the deliveries, times in seconds."""

    sent: int
    waits: list[float] = field(default_factory=list)  # from the scheduled moment to the answer's last byte
    late: list[float] = field(default_factory=list)  # from the scheduled moment to the first byte out: the client's own
    refused: list[str] = field(default_factory=list)

    def row(self, kind: str, database: str) -> dict[str, float | int | str]:
        waits, late = sorted(self.waits), sorted(self.late)
        at = {"p50_ms": waits[len(waits) // 2], "p99_ms": waits[int(len(waits) * 0.99)], "most_ms": waits[-1]}
        figures = at | {"client_late_p99_ms": late[int(len(late) * 0.99)]}
        rounded = {name: round(1000 * value, 2) for name, value in figures.items()}
        return {"kind": kind, "database": database, "deliveries": self.sent, **rounded}


class Connections:
    """Kept alive; a delivery takes one that nobody uses, or opens one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []  # and since when

    async def post(self, whole: bytes) -> bytes:
        """The answer's head and body. One that the server has dropped, or soon will, is replaced."""
        while self._free:
            reader, writer, since = self._free.pop()
            if not reader.at_eof() and time.monotonic() < since + KEPT:
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(whole)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        self._free.append((reader, writer, time.monotonic()))
        return head + body

    def close(self) -> None:
        for _, writer, _ in self._free:
            writer.close()


async def arrive(port: int, requests: Iterator[bytes], rate: float) -> Arrivals:
    """Send each at its moment, however many are still unanswered."""
    ready = list(requests)  # signed beforehand
    found = Arrivals(len(ready))
    connections = Connections(port)
    clock = time.perf_counter
    start = clock() + 0.1

    async def one(whole: bytes, due: float) -> None:
        found.late.append(clock() - due)
        try:
            answer = await connections.post(whole)
        except (OSError, asyncio.IncompleteReadError) as error:
            found.refused.append(f"{type(error).__name__}: {error}")
            return
        found.waits.append(clock() - due)
        if not answer.startswith(b"HTTP/1.1 202 "):
            found.refused.append(answer[:200].decode(errors="replace"))

    under_way: set[asyncio.Task[None]] = set()
    gc.collect()
    gc.disable()  # the client's own pauses are not the server's
    try:
        for number, whole in enumerate(ready):
            due = start + number / rate
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(whole, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    finally:
        gc.enable()
        connections.close()
    return found


@contextlib.asynccontextmanager
async def idle(port: int, count: int) -> AsyncIterator[None]:
    """So many connections that send nothing, opened again as the server drops them."""

    async def keep() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                opened.release()
                with contextlib.suppress(OSError):
                    await reader.read()
                writer.close()

    opened = asyncio.Semaphore(0)
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(keep()))
        await opened.acquire()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def served(database: str) -> AsyncIterator[int]:
    """The port of the service, a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        listening.set_inheritable(True)
        argv = ["-m", "tests.bench.bench_webhook", "--serve", database, str(listening.fileno())]
        server = await asyncio.create_subprocess_exec(sys.executable, *argv, pass_fds=[listening.fileno()])
        try:
            yield listening.getsockname()[1]
        finally:
            server.terminate()
            await server.wait()


def stored(database: str) -> int:
    """Runs in the database: each labelled delivery is one."""
    store = Store.open(database)
    try:
        return sum(store.counts().values())
    finally:
        store.close()


async def measure(name: str, database: str, seconds: int) -> list[dict[str, float | int | str]]:
    warm, count = 100, RATE * seconds
    async with served(database) as port:
        await arrive(port, labels(warm, 0), RATE / 2)  # imports, caches, connections
        async with idle(port, IDLE):
            bare = await arrive(port, baseline(count // 3, 0), RATE)
            found = await arrive(port, labels(count, warm), RATE)
    lost = warm + count - len(found.refused) - stored(database)
    if bare.refused:
        raise RuntimeError(f"the baseline refused {len(bare.refused)}: {bare.refused[0]}")
    trouble = {"refused": len(found.refused), "lost": lost}
    for text in found.refused[:3]:
        print(f"refused: {text}", file=sys.stderr)
    return [bare.row("baseline", name), found.row("labelled", name) | trouble]


async def bench(quick: bool) -> list[dict[str, float | int | str]]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 4 * IDLE, hard))
    seconds = 5 if quick else 30
    with tempfile.TemporaryDirectory() as folder:
        rows = await measure("SQLite", f"sqlite:///{Path(folder) / 'troop.sqlite3'}", seconds)
    postgres = Postgres(durable=True)
    try:
        return rows + await measure("PostgreSQL", postgres.url, seconds)
    finally:
        postgres.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_arrivals", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="for 5 s")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    rows = asyncio.run(bench(arguments.quick))
    columns = ("deliveries", "p50_ms", "p99_ms", "most_ms", "client_late_p99_ms", "refused", "lost")
    print(f"{'':10} {'':10}", *(f"{name:>18}" for name in columns))
    for row in rows:
        print(f"{row['database']:10} {row['kind']:10}", *(f"{row.get(name, ''):>18}" for name in columns))
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": rows}, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row.get("lost") or row.get("refused") for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
