"""A decoding step of a layer with a gated delta rule, in the shape of a real model, with random weights: its texts'
states advanced in their pool, and copied out and back.
"""

from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig

from engine.model.in_pool import COPIES, Advances, Lent
from engine.model.packages import by_packages
from engine.model.state_trials import TrialStates
from engine.model.states import Rows, StatePool, StepStates, keep_states_apart, keeping

LAYERS = {  # by kind: the layer, and its function for single tokens
    "qwen3_next": ("Qwen3NextGatedDeltaNet", "torch_recurrent_gated_delta_rule"),
    "kimi_linear": ("KimiLinearDeltaAttention", "recurrent_kimi_delta_attention"),
}


class Step(NamedTuple):
    """One token of each text. Without sizes of its own a kind has those of the published model."""

    kind: str
    texts: int
    sizes: tuple[tuple[str, Any], ...] = ()


class Bed:
    """A layer, a pool with a slot for each text, and the step's inputs."""

    def __init__(self, step: Step, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        home = import_module(f"transformers.models.{step.kind}.modeling_{step.kind}")
        names = LAYERS[step.kind]
        config = AutoConfig.for_model(step.kind, **dict(step.sizes))
        with device:
            self._layer = getattr(home, names[0])(config, 0).to(dtype).requires_grad_(False)
        for weight in self._layer.parameters():
            weight.normal_(std=0.05)
        (self._recurrent,) = keep_states_apart(self._layer)
        self._rule = getattr(home, names[1])
        self.packages = self._rule.installed and self._rule.package
        self._x = torch.randn(1, step.texts, config.hidden_size, device=device).to(dtype)
        trial = TrialStates()
        with keeping(trial):
            self._layer(self._x[:, :1].expand(1, 8, -1), cache=None)
        self.pool = StatePool.of(list(trial.shapes.values()), step.texts, device)
        for state in self.pool.states.values():
            state.normal_(std=0.1)
        self._slots = torch.randperm(step.texts).to(device)
        self.state = self.pool.states[0, "recurrent", 0]
        self._inputs = self._random(getattr(self._layer, "num_k_heads", self.state.shape[1]), dtype)

    def _random(self, key_heads: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Query, key, value, decay and beta of the rule."""
        texts, heads, width, values = self.state.shape
        place = self.state.device
        shapes = ((key_heads, width), (key_heads, width), (heads, values), (heads,))
        query, key, value, beta = (torch.randn(texts, 1, *shape, device=place).to(dtype) for shape in shapes)
        each = (width,) if key_heads == heads else ()  # as Kimi's features decay
        return query, key, value, -torch.rand(texts, 1, heads, *each, device=place), beta.sigmoid()

    def whole(self, advances: Advances) -> Tensor:
        """The layer, `[1, texts, hidden]`; its states in the pool where they are advanced there, else copied."""
        self._recurrent.in_pool = advances
        states = StepStates(self.pool, (Rows(None, 1, self._slots, goes_on=True, kept=True),))
        with keeping(states):
            found: Tensor = self._layer(self._x, cache=None)
        return found

    def rule(self, advances: Advances, packages: bool = False) -> Tensor:
        """The rule alone, `[texts, 1, heads, value]`, with the copies; by the package that may compute it, if asked."""
        query, key, value, decay, beta = self._inputs
        pool = StatePool({(0, "recurrent", 0): self.state})
        states = pool.read(0, self._slots, Lent(advances, self._slots, kept=True))
        with by_packages(packages):
            found, last = self._rule(
                query, key, value, g=decay, beta=beta, initial_state=states["recurrent", 0],
                output_final_state=True, use_qk_l2norm_in_kernel=True,
            )  # fmt: skip
        pool.write(0, self._slots, {("recurrent", 0): last})
        result: Tensor = found
        return result

    def error(self, name: str, advances: Advances) -> float:
        """Root mean square of the errors of the outputs or states of `whole` or `rule`, advanced in the pool against
        copied, in standard deviations.
        """
        run, before, found = getattr(self, name), self.state.clone(), []
        kept = {key: state.clone() for key, state in self.pool.states.items()}
        for way in (advances, COPIES):
            for key, state in kept.items():
                self.pool.states[key].copy_(state)
            found.append((run(way).float(), self.state - before))
        pairs = zip(*found, strict=True)
        return max(float((one - other).square().mean().sqrt() / other.std()) for one, other in pairs)
