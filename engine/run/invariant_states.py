"""Recurrent layers in batch-invariant mode: each text token by token, in calls of one shape.

A layer's code for whole texts sums in an order that depends on their lengths, so that a prompt in other chunks would
leave another state. Here a tile's texts advance together by one token at a time, as many as a tile has rows, the last
of them repeated: what a token leaves depends on its text alone. A prompt takes as many calls of each layer as it has
tokens, which is far slower than at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.model.in_pool import Lent
from engine.model.states import Call, Recurrent, StateCache, StatePool, joined
from engine.run.batch import Text


@dataclass(frozen=True)
class TileRound:
    """One token of some texts of a tile."""

    rows: Tensor  # [rows of a tile, 1] int64, each text's; the last one repeated
    slots: Tensor  # [rows of a tile] int64, of their states, the same way
    owned: Tensor  # [rows of a tile] int64, the same, but -1 for those that are repeated
    texts: int  # those that are not repeated
    goes_on: bool  # they have a state; else these are their first tokens


@dataclass(frozen=True)
class TileStates:
    """The recurrent layers of one tile; the tiles of a step come in the order of its rows."""

    pool: StatePool
    rounds: Sequence[TileRound]
    places: Tensor  # [rows of a tile] int64, for each row its place in all rounds, one behind the other

    @classmethod
    def of(cls, pool: StatePool, texts: Sequence[Text], first: int, last: int, size: int, device: Any) -> "TileStates":
        """The tile of `size` rows that holds the rows from `first` to `last` of a step, none of which is a guess."""
        inside = [(text, max(text.first, first), min(text.first + text.new, last)) for text in texts]
        inside = [each for each in inside if each[1] < each[2]]
        rounds: list[TileRound] = []
        places = [0] * (last - first)
        for turn in range(max(end - begin for _, begin, end in inside)):
            for goes_on in (False, True):
                found = [
                    (begin + turn, text.slot)
                    for text, begin, end in inside
                    if begin + turn < end and goes_on == (text.goes_on or begin + turn > text.first)
                ]
                if not found:
                    continue
                for place, (row, _) in enumerate(found, start=len(rounds) * size):
                    places[row - first] = place
                padded = (found + found[-1:] * size)[:size]
                rows, slots = torch.tensor(padded, device=device).T
                slots, owned = slots.contiguous(), slots.clone()
                owned[len(found) :] = -1
                rounds.append(TileRound((rows - first)[:, None], slots, owned, len(found), goes_on))
        places += places[-1:] * (size - len(places))  # a tile's padding repeats its last row
        return cls(pool, rounds, torch.tensor(places, device=device))

    def mix(self, layer: Recurrent, call: Call) -> Any:
        """See `engine.model.states.StateContext`."""
        outputs = []
        for each in self.rounds:
            lent = Lent(layer.in_pool, each.owned, kept=True)
            cache = StateCache(self.pool.read(layer.index, each.slots, lent) if each.goes_on else None)
            outputs.append(layer.advance(call, each.rows, cache, not each.goes_on))
            self.pool.write(layer.index, each.slots[: each.texts], cache.states)
        return joined(outputs, self._in_order)

    def _in_order(self, pieces: list[Tensor]) -> Tensor:
        """`[1, rows, ...]` from `[rows of a tile, 1, ...]` of each round."""
        return torch.cat(pieces).flatten(0, 1).index_select(0, self.places)[None]
