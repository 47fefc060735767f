"""Muon for the hidden matrices, Adam for the rest; float32 masters behind bfloat16 weights.

Muon: Keller Jordan et al., https://kellerjordan.github.io/posts/muon/ - the momentum, made orthogonal by Newton-Schulz.
"""

import dataclasses

import torch
from torch import Tensor

from bot.capuchin.model import Capuchin


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """About the nearest orthogonal matrices of [batch, rows, columns], in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates at full height, and what goes with them."""

    muon: float = 0.02
    adam: float = 0.004
    momentum: float = 0.95
    decay: float = 0.02  # of hidden matrices, times the rate
    clip: float = 1.0  # of the gradient of embeddings and norms


class Optimizer:
    """Steps the network's bfloat16 weights by way of float32 masters. `state` is all that resuming needs."""

    def __init__(self, net: Capuchin, rates: Rates) -> None:
        self.net, self.rates, self.steps = net, rates, 0
        self.masters = {name: p.detach().float().clone() for name, p in net.named_parameters()}
        self.first = {name: torch.zeros_like(p) for name, p in self.masters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in self.masters.items() if not self._hidden(name)}

    @staticmethod
    def _hidden(name: str) -> bool:
        return name.startswith("layers.") and not name.endswith("norm")

    def _parts(self, name: str, tensor: Tensor) -> list[Tensor]:
        """Views of a merged matrix, one for each of the matrices that it joins."""
        shape = self.net.shape
        if name.endswith("qkv"):
            kv = shape.num_key_value_heads * shape.head_dim
            return list(torch.split(tensor, [shape.num_attention_heads * shape.head_dim, kv, kv]))
        return list(tensor.chunk(2)) if name.endswith("gate_up") else [tensor]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One step at `factor` times the full rates; clears the gradients."""
        self.steps += 1
        rates = self.rates
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        grads = {name: p.grad.float() for name, p in self.net.named_parameters() if p.grad is not None}
        other = torch.stack([g.norm() for name, g in grads.items() if not self._hidden(name)]).norm()
        shrink = min(1.0, rates.clip / (float(other) + 1e-6))
        for name, grad in grads.items():
            master, first = self.masters[name], self.first[name]
            if self._hidden(name):
                first.lerp_(grad, 1 - rates.momentum)
                update = grad.lerp(first, rates.momentum)  # Nesterov
                for part, change in zip(self._parts(name, master), self._parts(name, update), strict=True):
                    groups.setdefault(tuple(part.shape), []).append((part, change))
            else:
                grad = grad * shrink
                second = self.second[name]
                first.lerp_(grad, 0.1)
                second.lerp_(grad * grad, 0.02)
                hat1, hat2 = first / (1 - 0.9**self.steps), second / (1 - 0.98**self.steps)
                master.sub_(hat1 / (hat2.sqrt() + 1e-8), alpha=rates.adam * factor)
        for (rows, columns), pairs in groups.items():
            changes = orthogonal(torch.stack([change for _, change in pairs]))
            rate = rates.muon * factor * max(1.0, rows / columns) ** 0.5
            for (part, _), change in zip(pairs, changes, strict=True):
                part.mul_(1 - rates.decay * rates.muon * factor)
                part.sub_(change, alpha=rate)
        for name, p in self.net.named_parameters():
            p.copy_(self.masters[name])
            p.grad = None

    def state(self) -> dict[str, object]:
        """Everything but the rates."""
        return {"steps": self.steps, "masters": self.masters, "first": self.first, "second": self.second}

    @torch.no_grad()
    def restore(self, state: dict[str, object]) -> None:
        """Take back what `state` gave, weights of the network included."""
        self.steps = state["steps"]  # type: ignore[assignment]
        self.masters, self.first, self.second = state["masters"], state["first"], state["second"]  # type: ignore[assignment]
        for name, p in self.net.named_parameters():
            p.copy_(self.masters[name])
