"""What falls by lot: which of many checks are looked into, and how deep in the stack.

Standard library only, Python 3.8+. Executed by `runner.py` for `guard.py`. A loop of comparisons must not take many
times as long because each is looked into.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def by_lot(most: int) -> int:
    return 1 + os.urandom(1)[0] % most


def deepening() -> Callable[[int, Callable[[], Any]], Any]:
    def deeper(by: int, act: Callable[[], Any]) -> Any:
        """What it gives, called so many calls deeper in the stack."""
        return deeper(by - 1, act) if by else act()

    return deeper


def rarely(often: int, dear: int = 1) -> tuple[Callable[[str], bool], Callable[[str, int], None]]:
    """Whether one of many checks in a place is to be looked into: the first `often` all, then ever fewer, by lot: none
    of what is judged can tell which; those as dear as several checks so many times fewer. And what is told that one was
    as much as so many more."""
    done: dict[str, int] = {}
    waiting: dict[str, int] = {}  # until so many are done
    urandom, number = os.urandom, int.from_bytes

    def wait(place: str, count: int) -> None:
        done[place] = count
        waiting[place] = count + (number(urandom(4), "big") % (2 * dear * count // often) if count > often else 0)

    def due(place: str) -> bool:
        count = done.get(place, 0) + 1
        if count <= waiting.get(place, 0):
            done[place] = count
            return False
        wait(place, count)
        return True

    def spent(place: str, more: int) -> None:
        wait(place, done[place] + more)

    return due, spent
