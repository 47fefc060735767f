"""Several training processes of one thread each, which share the weights and split the optimizer's work.

Threads synchronise at every operation, and all wait when one loses its core; these processes synchronise twice a step.
The weights are in shared memory; each process sums the gradients of its own part of them, and updates it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, multiprocessing

from bot.capuchin.training.model import Capuchin


@dataclasses.dataclass(frozen=True)
class Team:
    """What the processes share: the weights, a gradient slot each, a clock and a barrier."""

    size: int
    weights: dict[str, Tensor]  # bfloat16
    gradients: tuple[dict[str, Tensor], ...]  # float32; one slot a process
    clock: Tensor  # [1] float64: minutes of training so far, written by the first process
    barrier: Any  # multiprocessing.Barrier

    def adopt(self, net: Capuchin) -> None:
        """Make the network's parameters the shared ones."""
        for name, p in net.named_parameters():
            p.data = self.weights[name]

    def share(self, rank: int, net: Capuchin) -> dict[str, Tensor]:
        """Publish this process's gradients, wait for the others', and return the sums for this process's part."""
        for name, p in net.named_parameters():
            assert p.grad is not None
            self.gradients[rank][name].copy_(p.grad)
            p.grad = None
        self.barrier.wait()
        mine = parts(self.weights, self.size)[rank]
        return {name: torch.stack([slot[name] for slot in self.gradients]).sum(0) for name in mine}

    def release(self) -> None:
        """Wait until all have updated their part."""
        self.barrier.wait()


def shared(tensor: Tensor) -> Tensor:
    """The tensor, moved to shared memory."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def team(net: Capuchin, size: int) -> Team:
    """A team for the network, whose parameters are moved to shared memory."""
    weights = {name: shared(p.detach().clone()) for name, p in net.named_parameters()}
    slots = tuple(
        {name: shared(torch.zeros_like(w, dtype=torch.float32)) for name, w in weights.items()} for _ in range(size)
    )
    barrier = multiprocessing.get_context("spawn").Barrier(size) if size > 1 else _Alone()
    made = Team(size, weights, slots, shared(torch.zeros(1, dtype=torch.float64)), barrier)
    made.adopt(net)
    return made


class _Alone:
    """The barrier of a single process."""

    def wait(self) -> int:
        """Return at once."""
        return 0


def parts(weights: dict[str, Tensor], size: int) -> list[list[str]]:
    """The weights' names, split among processes into parts of about the same size."""
    loads = [0] * size
    names: list[list[str]] = [[] for _ in range(size)]
    for name in sorted(weights, key=lambda name: (-weights[name].numel(), name)):
        least = loads.index(min(loads))
        loads[least] += weights[name].numel()
        names[least].append(name)
    return names


def run(target: Any, size: int, arguments: Sequence[Any]) -> None:
    """Run `target(rank, *arguments)` in `size` processes, or in this one if it is 1. Raises if one fails."""
    if size == 1:
        target(0, *arguments)
    else:
        multiprocessing.spawn(target, args=tuple(arguments), nprocs=size, join=True)  # type: ignore[attr-defined,no-untyped-call]
