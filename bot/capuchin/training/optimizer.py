"""Muon for the hidden matrices, Adam for the rest; float32 master weights for bfloat16 weights.

Muon: Keller Jordan et al., https://kellerjordan.github.io/posts/muon/ - momentum, orthogonalised by Newton-Schulz.
"""

import dataclasses

import torch
from torch import Tensor

from bot.capuchin.training.model import Capuchin
from bot.capuchin.training.parallel import shared


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximations of the nearest orthogonal matrices of [batch, rows, columns], in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


State = dict[str, dict[str, Tensor]]  # by kind (masters, first, second, steps), then by weight


@dataclasses.dataclass(frozen=True)
class Rates:
    """Maximum learning rates and other hyperparameters."""

    muon: float = 0.02
    adam: float = 0.004
    momentum: float = 0.95
    decay: float = 0.02  # of hidden matrices, times the rate
    clip: float = 1.0  # of the gradient of embeddings and norms


class Optimizer:
    """Updates the network's bfloat16 weights through float32 masters. `state` is all that is needed to resume.

    Masters and moments are in shared memory: several processes may each have an optimizer with the same `state` and
    update different weights.
    """

    def __init__(self, net: Capuchin, rates: Rates, state: State | None = None) -> None:
        self.net, self.rates = net, rates
        if state is None:
            masters = {name: p.detach().float().clone() for name, p in net.named_parameters()}
            first = {name: torch.zeros_like(p) for name, p in masters.items()}
            second = {name: torch.zeros_like(p) for name, p in masters.items() if not self._hidden(name)}
            state = {"masters": masters, "first": first, "second": second, "steps": {"steps": torch.zeros(())}}
        self.state = {kind: {name: shared(t) for name, t in some.items()} for kind, some in state.items()}
        self.steps = int(state["steps"]["steps"])
        self.write_back(list(self.state["masters"]))

    @staticmethod
    def _hidden(name: str) -> bool:
        return name.startswith("layers.") and not name.endswith("norm")

    def _parts(self, name: str, tensor: Tensor) -> list[Tensor]:
        """Views of the matrices that a merged matrix consists of."""
        shape = self.net.shape
        if name.endswith("qkv"):
            kv = shape.num_key_value_heads * shape.head_dim
            return list(torch.split(tensor, [shape.num_attention_heads * shape.head_dim, kv, kv]))
        return list(tensor.chunk(2)) if name.endswith("gate_up") else [tensor]

    @torch.no_grad()
    def step(self, factor: float, gradients: dict[str, Tensor]) -> None:
        """Update the weights that have a gradient (float32) here, at `factor` times the maximum rates."""
        self.steps += 1
        rates = self.rates
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for name, grad in gradients.items():
            master, first = self.state["masters"][name], self.state["first"][name]
            if self._hidden(name):
                first.lerp_(grad, 1 - rates.momentum)
                update = grad.lerp(first, rates.momentum)  # Nesterov
                for part, change in zip(self._parts(name, master), self._parts(name, update), strict=True):
                    groups.setdefault(tuple(part.shape), []).append((part, change))
            else:
                grad = grad * min(1.0, rates.clip / (float(grad.norm()) + 1e-6))
                second = self.state["second"][name]
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
        self.write_back(list(gradients))

    @torch.no_grad()
    def write_back(self, names: list[str]) -> None:
        """Copy the masters of these weights to the network, rounded to bfloat16."""
        weights = dict(self.net.named_parameters())
        for name in names:
            weights[name].copy_(self.state["masters"][name])
        self.state["steps"]["steps"].fill_(self.steps)
