"""Whose turn it is: which waiting sequence starts next, so that every client progresses.

Clients are distinguished by `Request.client`. The next to start is the first of the client with the fewest running
sequences; among equals, of the one with the least service (tokens computed for it so far), as in the virtual token
counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024). A client that comes back is raised to
the least service of the active ones, so that no client saves up turns. Within a client, sequences start in order of
arrival, so that siblings, which share a prompt, run together.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator

from engine.schedule.sequence import Request, Sequence, State

REMEMBERED = 1024  # clients without work whose service is still known


class Client:
    """A client with waiting or running sequences."""

    __slots__ = ("name", "rows", "service", "waiting")

    def __init__(self, name: str, service: int) -> None:
        self.name = name
        self.rows = 0  # its sequences that run
        self.service = service  # tokens computed for it, and what it was raised by
        self.waiting: OrderedDict[Request, deque[Sequence]] = OrderedDict()


class Turns:
    """Waiting sequences by client, and how much service each client has had. Not thread-safe: the engine's thread calls
    it.
    """

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._past: OrderedDict[str, int] = OrderedDict()  # service of clients without work, oldest first
        self._count = 0

    def __len__(self) -> int:
        """Sequences that wait."""
        return self._count

    def __iter__(self) -> Iterator[Sequence]:
        """Sequences that wait, in no particular order."""
        for client in self._clients.values():
            for sequences in client.waiting.values():
                yield from sequences

    @property
    def clients(self) -> int:
        """Clients that have something waiting or running."""
        return len(self._clients)

    def client(self, sequence: Sequence) -> Client:
        """The client of a sequence that is waiting or running."""
        return self._clients[sequence.request.client]

    def richest(self) -> Client:
        """The client with the most running sequences; there must be one."""
        return max(self._clients.values(), key=lambda client: client.rows)

    def settled(self) -> bool:
        """Whether nobody is preempted for those that wait: their clients have rows, or there is nobody to spare."""
        return self.richest().rows < 2 or all(client.rows for client in self._clients.values() if client.waiting)

    def add(self, sequence: Sequence) -> None:
        """Add a new sequence behind the others of its client."""
        client = self._open(sequence.request.client)
        client.waiting.setdefault(sequence.request, deque()).append(sequence)
        self._count += 1

    def start(self, sequence: Sequence) -> None:
        """Record that a waiting sequence runs now."""
        self._take(sequence)
        self.client(sequence).rows += 1

    def put_back(self, sequence: Sequence) -> None:
        """Put a running sequence back, ahead of the others of its client."""
        client = self.client(sequence)
        client.rows -= 1
        client.waiting.setdefault(sequence.request, deque()).appendleft(sequence)
        client.waiting.move_to_end(sequence.request, last=False)
        self._count += 1

    def end(self, sequence: Sequence) -> None:
        """Record that a waiting or running sequence has ended."""
        client = self.client(sequence)
        if sequence.state is State.WAITING:
            self._take(sequence)
        else:
            client.rows -= 1
        if not client.rows and not client.waiting:
            self._close(client)

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """Count `tokens` that were computed for a running sequence."""
        self.client(sequence).service += tokens

    def order(self) -> Iterator[Sequence]:
        """Waiting sequences in the order of their turns; the caller starts or skips each. Skipping one skips its
        siblings. Sequences that are added meanwhile are left out.
        """
        heap: list[tuple[int, int, int, str]] = []
        first: dict[str, Request] = {}
        rest: dict[str, Iterator[Request]] = {}

        def offer(client: Client, request: Request) -> None:
            first[client.name] = request
            heapq.heappush(heap, (client.rows, client.service, client.waiting[request][0].arrival, client.name))

        for client in self._clients.values():
            if client.waiting:
                rest[client.name] = iter(list(client.waiting))
                offer(client, next(rest[client.name]))
        while heap:
            name = heapq.heappop(heap)[-1]
            client, request = self._clients[name], first[name]
            sequence = client.waiting[request][0]
            yield sequence
            following: Request | None = request
            if sequence.state is State.WAITING or request not in client.waiting:
                following = next(rest[name], None)
            if following is not None:
                offer(client, following)

    def shares(self, prefilling: list[Sequence], chunk: int, scored: int) -> dict[Sequence, int]:
        """Tokens that each prefilling sequence may compute: the chunk, split evenly between clients. What one does not
        need goes to the others, those with the least service first. Prompts that are scored get `scored` tokens in all.
        """
        left = chunk
        clients: dict[str, list[Sequence]] = {}
        shares = dict.fromkeys(prefilling, 0)
        for sequence in sorted(prefilling, key=lambda s: s.arrival):
            clients.setdefault(sequence.request.client, []).append(sequence)
        turns = sorted(clients.values(), key=lambda sequences: self.client(sequences[0]).service)
        even = max(1, chunk // max(1, len(turns)))
        for most in (even, chunk):
            for sequences in turns:
                allowed = min(left, most)
                for sequence in sequences:
                    new = min(len(sequence.tokens) - sequence.computed - shares[sequence], allowed)
                    if sequence.scoring:
                        new = min(new, scored)
                        scored -= new
                    shares[sequence] += new
                    allowed -= new
                    left -= new
        return shares

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        assert self._count == sum(1 for _ in self)
        for name, client in self._clients.items():
            assert client.name == name
            assert client.rows >= 0
            assert client.rows or client.waiting, "clients without work are forgotten"
            assert all(client.waiting.values())
            assert all(s.request is request for request, queue in client.waiting.items() for s in queue)
        assert len(self._past) <= REMEMBERED

    def _open(self, name: str) -> Client:
        client = self._clients.get(name)
        if client is None:
            least = min((other.service for other in self._clients.values()), default=0)
            client = self._clients[name] = Client(name, max(self._past.pop(name, 0), least))
        return client

    def _close(self, client: Client) -> None:
        del self._clients[client.name]
        self._past[client.name] = client.service
        if not self._clients:  # no client is left to compare with
            self._past.clear()
        elif len(self._past) > REMEMBERED:
            self._past.popitem(last=False)

    def _take(self, sequence: Sequence) -> None:
        waiting = self.client(sequence).waiting
        waiting[sequence.request].remove(sequence)
        if not waiting[sequence.request]:
            del waiting[sequence.request]
        self._count -= 1
