"""Several training processes of one thread each: weights in common, two meetings a step, the optimizer's work split.

Threads that meet at every operation stand still whenever one of them loses its core; processes that meet twice a step
hardly notice. The weights lie in shared memory; each process sums the gradients of, and updates, its own part of them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, multiprocessing

from bot.capuchin.training.model import Capuchin


@dataclasses.dataclass(frozen=True)
class Team:
    """What the processes share: the weights, one gradient slot each, a clock, and where they wait for each other."""

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
        """Hand over this process's gradients, wait for the others', and return the sums of this process's part."""
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
    """The tensor, moved to memory that other processes can be handed."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def team(net: Capuchin, size: int) -> Team:
    """A team for the network, whose parameters become shared."""
    weights = {name: shared(p.detach().clone()) for name, p in net.named_parameters()}
    slots = tuple(
        {name: shared(torch.zeros_like(w, dtype=torch.float32)) for name, w in weights.items()} for _ in range(size)
    )
    barrier = multiprocessing.get_context("spawn").Barrier(size) if size > 1 else _Alone()
    made = Team(size, weights, slots, shared(torch.zeros(1, dtype=torch.float64)), barrier)
    made.adopt(net)
    return made


class _Alone:
    """The barrier of one."""

    def wait(self) -> int:
        """Return at once."""
        return 0


def parts(weights: dict[str, Tensor], size: int) -> list[list[str]]:
    """The weights' names split among processes, about evenly by size."""
    loads = [0] * size
    names: list[list[str]] = [[] for _ in range(size)]
    for name in sorted(weights, key=lambda name: (-weights[name].numel(), name)):
        least = loads.index(min(loads))
        loads[least] += weights[name].numel()
        names[least].append(name)
    return names


def run(target: Any, size: int, arguments: Sequence[Any]) -> None:
    """Run `target(rank, *arguments)` in `size` processes, or here for one. Raises where one fails."""
    if size == 1:
        target(0, *arguments)
    else:
        multiprocessing.spawn(target, args=tuple(arguments), nprocs=size, join=True)  # type: ignore[attr-defined,no-untyped-call]
