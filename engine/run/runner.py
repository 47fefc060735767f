"""Runs a step on the model: decode steps as graphs where they are recorded, all others launch by launch."""

import logging

import torch
from torch import Tensor

from engine.cache.blocks import BlockAllocator
from engine.errors import GraphError
from engine.model.model import Model
from engine.run import invariant
from engine.run.batch import build, pack
from engine.run.graphs import Capture, DecodeSteps
from engine.schedule.scheduler import Limits
from engine.schedule.step import Step
from kernels.tree_attention.cost import CutRule

logger = logging.getLogger(__name__)


class Runner:
    """One model with a freshly allocated cache; make a new one for another cache."""

    def __init__(
        self,
        model: Model,
        allocator: BlockAllocator,
        limits: Limits,
        longest: int,
        cost: CutRule,
        capture: Capture | None = None,
        batch_invariant: bool = False,
    ) -> None:
        """
        Args:
            model: its cache is allocated here: the allocator's blocks, and a slot per row of padding.
            allocator: of the cache's blocks.
            limits: of the scheduler.
            longest: most tokens of a sequence.
            cost: which shared nodes attention reads on their own.
            capture: how decode steps become graphs; needs attention by Triton. `None`: they don't.
            batch_invariant: see `engine.run.invariant`; there are no graphs then.
        """
        if batch_invariant:
            capture = None
        self._invariant = batch_invariant
        self.cost = cost
        self._model = model
        self._allocator = allocator
        self._block_size = limits.block_size
        slots = allocator.count * limits.block_size
        model.allocate(slots + (limits.max_batch if capture else 0))
        self.decode: DecodeSteps | None = None
        if capture is not None:
            self.decode = DecodeSteps(model, limits.block_size, limits.max_batch, longest, slots, capture)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Record all graphs now rather than when they are first needed."""
        if self.decode is not None:
            try:
                self.decode.warm_up()
            except GraphError as error:
                self._without_graphs(error)

    def _without_graphs(self, error: GraphError) -> None:
        logger.warning("decode steps are launched kernel by kernel: %s", error)
        self.decode = None

    @torch.inference_mode()
    def run(self, step: Step) -> tuple[Tensor, int]:
        """Compute a step with at least one work.

        Returns:
            Logits of the sampled rows, `[sampled, vocabulary]` float32, which the next step may overwrite; and how many
            cached tokens attention did not have to read again thanks to shared nodes.
        """
        model, allocator, size = self._model, self._allocator, self._block_size
        packed = pack(step, size)
        if self.decode is not None:
            try:
                found = self.decode.run(packed, step.shared, self.cost)
            except GraphError as error:
                self._without_graphs(error)
                found = None
            if found is not None:
                return found
        if self._invariant:
            return invariant.forward(model, packed, step.works, size), 0
        built, shared_tokens = build(
            packed, step.shared, size, self.cost, model.backend, model.device, allocator.zone, allocator.count
        )
        return model.forward(built), shared_tokens
