"""A decoding step of a layer with a gated delta rule or a state space, in the shape of a real model, with random
weights: its texts' states advanced in their pool, and copied out and back.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig

from engine.model.in_pool import COPIES, Advances, Lent
from engine.model.packages import by_packages
from engine.model.state_trials import TrialStates
from engine.model.states import Rows, StatePool, StepStates, keep_states_apart, keeping

LAYERS = {  # by kind: what it sums up by, the layer, and its function for single tokens
    "qwen3_next": ("delta rule", "Qwen3NextGatedDeltaNet", "torch_recurrent_gated_delta_rule"),
    "kimi_linear": ("delta rule", "KimiLinearDeltaAttention", "recurrent_kimi_delta_attention"),
    "nemotron_h": ("state space", "NemotronHMamba2Mixer", "mamba2_selective_state_update"),
    "jamba": ("state space", "JambaMambaMixer", "mamba_selective_state_update"),
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
        rule, layer, function = LAYERS[step.kind]
        config = AutoConfig.for_model(step.kind, **dict(step.sizes))
        with device:
            self._layer = getattr(home, layer)(config, 0).to(dtype).requires_grad_(False)
        for weight in self._layer.parameters():
            weight.normal_(std=0.05)
        (self._recurrent,) = keep_states_apart(self._layer)
        self._rule = getattr(home, function)
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
        self._call = self._delta_rule(dtype) if rule == "delta rule" else self._state_space(dtype)

    def _delta_rule(self, dtype: torch.dtype) -> Callable[[Any], Any]:
        """The rule with random inputs, of states to the output and the states."""
        texts, heads, width, values = self.state.shape
        key_heads, place = getattr(self._layer, "num_k_heads", heads), self.state.device
        shapes = ((key_heads, width), (key_heads, width), (heads, values), (heads,))
        query, key, value, beta = (torch.randn(texts, 1, *shape, device=place).to(dtype) for shape in shapes)
        each = (width,) if key_heads == heads else ()  # as Kimi's features decay
        decay, rate = -torch.rand(texts, 1, heads, *each, device=place), beta.sigmoid()
        return lambda states: self._rule(
            query, key, value, g=decay, beta=rate, initial_state=states, output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )  # fmt: skip

    def _state_space(self, dtype: torch.dtype) -> Callable[[Any], Any]:
        """The same, of a state space."""
        texts, *rows, width = self.state.shape
        own, groups = rows[:1], [self._layer.n_groups] if len(rows) > 1 else []

        def some(*shape: int) -> Tensor:
            return torch.randn(*shape, device=self.state.device).to(dtype)

        def of_rows(x: Tensor) -> Tensor:  # a number for each head of Mamba 2
            return x[..., None].expand(*x.shape, rows[1]) if len(rows) > 1 else x

        value, key, query = some(texts, *rows), some(texts, *groups, width), some(texts, *groups, width)
        rate = -some(*own).float().abs()[(..., *[None] * len(rows))].expand(*rows, width)
        time, skip, bias = (of_rows(some(*shape)) for shape in ((texts, *own), own, own))
        if len(rows) == 1:
            rate = rate.contiguous()  # of each number of Mamba's states
        return lambda states: (
            self._rule(states, value, time, rate, key, query, skip, dt_bias=bias, dt_softplus=True),
            states,
        )

    def whole(self, advances: Advances) -> Tensor:
        """The layer, `[1, texts, hidden]`; its states in the pool where they are advanced there, else copied."""
        self._recurrent.in_pool = advances
        states = StepStates(self.pool, (Rows(None, 1, self._slots, goes_on=True, kept=True),))
        with keeping(states):
            found: Tensor = self._layer(self._x, cache=None)
        return found

    def rule(self, advances: Advances, packages: bool = False) -> Tensor:
        """The rule alone, `[texts, ..., values]`, with the copies; by the package that may compute it, if asked."""
        pool = StatePool({(0, "recurrent", 0): self.state})
        states = pool.read(0, self._slots, Lent(advances, self._slots, kept=True))
        with by_packages(packages):
            found, last = self._call(states["recurrent", 0])
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
