"""Which replica computes a request: pure, without I/O.

Rendezvous hashing (Thaler, Ravishankar 1998) of a prompt's beginning names an order of the replicas that stays the same
for all prompts that begin alike, and that changes for as few as possible where a replica comes or goes. The first in
that order with room takes the request, as in consistent hashing with bounded loads (Mirrokni et al. 2018): whatever
spills over lands together, too. A conversation stays where it is for as long as there is room.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from starlette.exceptions import HTTPException

from engine.server.long_json import read_json, write_json

FIRST_BLOCKS = 4096  # bytes of a prompt that name its owner: some 64 blocks of 16 tokens
FEW = 16  # rows that a replica takes whatever the others have: it decodes them in about the time of one
SPARE = 1.25  # a replica's share of all rows, by the mean
REMEMBERED = 1 << 16  # conversations


@dataclass(frozen=True)
class Prefix:
    """How a prompt begins."""

    blocks: bytes  # digest of its first blocks, which choose the owner
    conversation: bytes  # digest of all up to the end of the first question, which all turns and siblings have


@dataclass(frozen=True)
class Load:
    """What a request asks of a replica."""

    prefix: Prefix | None  # None: nothing is generated, or the body is not valid
    rows: int = 1  # sequences


def load_of(path: str, body: bytes) -> Load:
    """What a request is for the router. Bodies that are not valid are a replica's to refuse."""
    if path not in ("/v1/chat/completions", "/v1/completions"):
        return Load(None)
    try:
        return _load(path, read_json(body))
    except (ValueError, HTTPException):
        return Load(None)


def _load(path: str, fields: Any) -> Load:
    if not isinstance(fields, dict):
        return Load(None)
    n = fields.get("n")
    rows = n if isinstance(n, int) and 0 < n < 1 << 20 else 1
    if path == "/v1/chat/completions":
        return Load(_prefix(_first_question(fields)), rows)
    prompts = fields.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        return Load(_prefix(prompts[0]), rows * len(prompts))
    return Load(_prefix(prompts), rows)


def _first_question(fields: dict[str, Any]) -> list[Any]:
    """What templates write first: tools, then the messages up to the first of the user."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return []
    first = next((at for at, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user"), None)
    return [fields.get("tools"), *messages[: None if first is None else first + 1]]


def _prefix(beginning: Any) -> Prefix:
    text = beginning if isinstance(beginning, str) else write_json(beginning)
    whole = text.encode("utf-8", "surrogatepass")
    blocks = _digest(whole[:FIRST_BLOCKS])
    # Raw prompts of one conversation have no border of turns: their first blocks are all that they surely share.
    return Prefix(blocks, blocks if isinstance(beginning, str) else _digest(whole))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def order(blocks: bytes, replicas: Collection[str]) -> list[str]:
    """The replicas as prompts with these first blocks prefer them: their owner first."""
    return sorted(replicas, key=lambda name: blake2b(blocks + name.encode(), digest_size=8).digest(), reverse=True)


class Router:
    """Counts what the replicas compute and chooses one for each request."""

    def __init__(self, replicas: Sequence[str], few: int = FEW, spare: float = SPARE) -> None:
        """
        Args:
            replicas: names of all that may ever be; they stay when a replica is started again.
            few: rows that a replica may have whatever the others have.
            spare: times the mean number of rows that it may have.
        """
        self.rows = dict.fromkeys(replicas, 0)
        self.spilled = 0  # requests that their owner had no room for
        self._few = few
        self._spare = spare
        self._places: OrderedDict[bytes, str] = OrderedDict()  # where a conversation was last

    def take(self, load: Load, among: Collection[str]) -> str:
        """The replica for a request, whose rows count from now until `release`.

        Args:
            load: of the request.
            among: replicas that are up; at least one.
        """
        mean = (sum(self.rows[name] for name in among) + load.rows) / len(among)
        most = max(self._few, self._spare * mean)
        roomy = [name for name in among if self.rows[name] + load.rows <= most]
        chosen = self._preferred(load.prefix, among, roomy) if load.prefix is not None and roomy else None
        if chosen is None:  # nothing to share, or a request of more rows than anybody's share
            chosen = min(sorted(among), key=self.rows.__getitem__)
        self.rows[chosen] += load.rows
        return chosen

    def release(self, load: Load, replica: str) -> None:
        """The request is done with this replica."""
        self.rows[replica] -= load.rows

    def _preferred(self, prefix: Prefix, among: Collection[str], roomy: Collection[str]) -> str:
        preferred = order(prefix.blocks, among)
        place = self._places.get(prefix.conversation)
        chosen = place if place is not None and place in roomy else next(name for name in preferred if name in roomy)
        self.spilled += chosen != preferred[0]
        self._places[prefix.conversation] = chosen
        self._places.move_to_end(prefix.conversation)
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)
        return chosen
